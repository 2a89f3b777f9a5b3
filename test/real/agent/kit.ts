/** One simulated host with one agent on it, and the ways to look at both. */
import assert from 'node:assert/strict';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AssignedNetwork, GuestOrder, GuestReport, HostReport } from '../../../src/core/model/assignment.ts';
import {
  openTestbed,
  tinyImage,
  type Testbed,
  type TestbedHost,
  type TestbedProcess,
  type TinyImage,
} from '../../../src/testbed/index.ts';
import { LibvirtClient } from '../../../src/libvirt/index.ts';
import { until } from '../../../src/testbed/proc.ts';
import type { HostSession } from '../../../src/core/model/host.ts';
import { willFile, type KeeperWill } from './lone-keeper.ts';
import { assignmentOf, guestId, lan } from './orders.ts';

export class AgentBed {
  readonly testbed: Testbed;
  readonly host: TestbedHost;
  readonly image: TinyImage;
  readonly #control: string;
  readonly #networks: AssignedNetwork[] = [lan];
  #agent: TestbedProcess | undefined;
  #generation = 0;
  #typed = 0;
  readonly #orders = new Map<string, GuestOrder>();

  private constructor(testbed: Testbed, image: TinyImage, control: string) {
    this.testbed = testbed;
    this.host = testbed.host('alpha');
    this.image = image;
    this.#control = control;
  }

  static async open(): Promise<AgentBed> {
    const image = await tinyImage();
    const testbed = await openTestbed({ hosts: ['alpha'] });
    const control = join(testbed.host('alpha').dir, 'control');
    await mkdir(control, { recursive: true });
    const bed = new AgentBed(testbed, image, control);
    await bed.keeper({});
    return bed;
  }

  /** Of the next assignments; absent: any. */
  session: HostSession | undefined;
  #will: KeeperWill = { session: { number: 1, id: '55555551-0000-4000-8000-000000000001' }, lease: 'held', epoch: 1 };

  /** Changes what the keeper does from now on. */
  async keeper(change: Partial<KeeperWill>): Promise<void> {
    this.#will = { ...this.#will, ...change };
    await writeFile(join(this.#control, 'keeper.new'), JSON.stringify(this.#will));
    await rename(join(this.#control, 'keeper.new'), join(this.#control, willFile));
  }

  controlFile(name: string): string {
    return join(this.#control, name);
  }

  get dataDir(): string {
    return join(this.host.dir, 'agent');
  }

  guestFile(index: number, file: string): string {
    return join(this.dataDir, 'guests', guestId(index), file);
  }

  async startAgent(): Promise<void> {
    const program = join(import.meta.dirname, 'agent-process.ts');
    const argv = [process.execPath, '--no-warnings', program, this.dataDir, this.#control, this.image.path];
    this.#agent = await this.host.spawn(argv, { output: { file: join(this.host.dir, 'agent.log') } });
  }

  /** SIGTERM is a clean stop, SIGKILL a crash. */
  async stopAgent(signal: NodeJS.Signals): Promise<number | null> {
    const agent = this.#agent;
    if (!agent) return null;
    agent.kill(signal);
    return (await agent.exited).code;
  }

  /** Sends an assignment with these guests changed or added. */
  async order(...orders: readonly GuestOrder[]): Promise<void> {
    for (const order of orders) this.#orders.set(order.id, order);
    await this.#send();
  }

  /** Changes the order of one guest and raises its generation. */
  async change(index: number, change: Partial<GuestOrder>): Promise<GuestOrder> {
    const old = this.#orders.get(guestId(index));
    assert.ok(old);
    const next = { ...old, ...change, generation: old.generation + 1 };
    await this.order(next);
    return next;
  }

  async unlist(index: number): Promise<void> {
    this.#orders.delete(guestId(index));
    await this.#send();
  }

  async networks(...networks: readonly AssignedNetwork[]): Promise<void> {
    this.#networks.splice(0, this.#networks.length, ...networks);
    await this.#send();
  }

  async #send(): Promise<void> {
    this.#generation += 1;
    const orders = [...this.#orders.values()];
    const assignment = assignmentOf(this.#generation, this.image, orders, this.#networks, this.session);
    await writeFile(join(this.#control, 'assignment.new'), JSON.stringify(assignment));
    await rename(join(this.#control, 'assignment.new'), join(this.#control, 'assignment.json'));
  }

  /** Takes the stored orders away from the agent: it must live on what it has. */
  async forgetOrders(): Promise<void> {
    await rename(join(this.#control, 'assignment.json'), join(this.#control, 'assignment.old'));
  }

  async report(): Promise<HostReport | undefined> {
    const text = await readFile(join(this.#control, 'report.json'), 'utf8').catch(() => undefined);
    return text === undefined ? undefined : (JSON.parse(text) as HostReport);
  }

  async reported(index: number): Promise<GuestReport | undefined> {
    return (await this.report())?.guests.find((guest) => guest.id === guestId(index));
  }

  /** Waits for a report in which the guest looks so. */
  async guestIs(
    index: number,
    what: string,
    check: (guest: GuestReport, report: HostReport) => boolean,
    timeoutMs = 30_000,
  ): Promise<GuestReport> {
    let last: GuestReport | undefined;
    const found = await until(
      async () => {
        const report = await this.report();
        last = report?.guests.find((guest) => guest.id === guestId(index));
        return report !== undefined && last !== undefined && check(last, report);
      },
      timeoutMs,
      50,
    );
    if (!found || !last) throw new Error(`g${index} is not ${what}: ${JSON.stringify(last)}\n${await this.agentLog()}`);
    return last;
  }

  async reportIs(what: string, check: (report: HostReport) => boolean, timeoutMs = 20_000): Promise<HostReport> {
    let last: HostReport | undefined;
    const found = await until(
      async () => {
        last = await this.report();
        return last !== undefined && check(last);
      },
      timeoutMs,
      50,
    );
    if (!found || !last)
      throw new Error(`the report is not ${what}: ${JSON.stringify(last)}\n${await this.agentLog()}`);
    return last;
  }

  async agentLog(): Promise<string> {
    return (await readFile(join(this.host.dir, 'agent.log'), 'utf8').catch(() => '')).split('\n').slice(-40).join('\n');
  }

  /** Process of the guest's QEMU, as the host sees it. */
  async qemuPid(index: number): Promise<string> {
    return (await this.host.run(['cat', `/run/libvirt/qemu/g${index}.pid`])).trim();
  }

  /** Types a command at the guest's console and waits until it is done; what was printed meanwhile is returned. */
  async inside(index: number, command: string): Promise<string> {
    this.#typed += 1;
    const client = await LibvirtClient.open({ socket: this.host.libvirtSocket });
    try {
      const stream = await client.openConsole(await client.lookupByUuid(guestId(index)), { force: true });
      let seen = '';
      stream.on('data', (chunk: Buffer) => {
        seen += chunk.toString('latin1');
      });
      // The shell prints the mark only when it evaluates it, not when it echoes the typing.
      const mark = `done-${this.#typed * 7}-`;
      stream.write(`\n${command}; echo done-$((${this.#typed} * 7))-\n`);
      const done = await until(() => seen.includes(mark), 15_000, 20);
      stream.destroy();
      if (!done)
        throw new Error(`the console of g${index} does not answer to ${command}: ${JSON.stringify(seen.slice(-500))}`);
      return seen;
    } finally {
      await client.close();
    }
  }

  async close(): Promise<void> {
    await this.testbed.close();
  }
}
