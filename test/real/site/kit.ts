/** What the whole-site tests share: a lab with an image and a network in it, and ways to look from outside. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import type { Client } from '../../../src/api/client.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import type { Body } from '../../../src/api/routes.ts';
import type { GuestView, HostView, ImageView } from '../../../src/api/schemas.ts';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { openLab, type Lab, type LabOptions } from '../../../src/site/lab.ts';
import { imageReady, until } from '../../../src/site/ready.ts';
import { tinyImage, type TestbedHost } from '../../../src/testbed/index.ts';

export { until };

export const memoryMiB = 128;

/** Sends the whole image over the API as a client would, and waits until the site has checked it. */
export async function addImage(
  client: Client,
  name: string,
  path: string,
  format: 'raw' | 'qcow2',
): Promise<ImageView> {
  const bytes = await readFile(path);
  await client.call('image.add', { body: { name, format, sizeBytes: bytes.length } });
  const sent = await client.raw('image.upload', { params: { image: name }, headers: { 'upload-offset': '0' }, bytes });
  await sent.body.dump();
  await client.call('image.finish', { params: { image: name }, body: {} });
  return imageReady(client, name, 30_000);
}

/** A site of real parts with the image `tiny` and the network `lab`. */
export class Site {
  readonly lab: Lab;
  #typed = 0;

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  static async open(options: LabOptions): Promise<Site> {
    const tiny = await tinyImage();
    const site = new Site(await openLab(options));
    try {
      await addImage(site.client, 'tiny', tiny.path, tiny.format);
      const { plan } = site.lab.testbed;
      const ipv4 = { cidr: plan.subnet, from: plan.guestsFirst, to: plan.guestsLast, gateway: plan.gateway };
      const ipv6 = { cidr: plan.subnet6, from: plan.guests6First, to: plan.guests6Last, gateway: plan.gateway6 };
      await site.client.call('network.create', { body: { name: 'lab', mode: 'bridge', bridge: 'br0', ipv4, ipv6 } });
      return site;
    } catch (error) {
      await site.lab.close();
      throw error;
    }
  }

  /** Anew each time: a restarted controller has a new client. */
  get client(): Client {
    return this.lab.client;
  }

  async run(body: Partial<Body<'guest.run'>> & { readonly name: string }): Promise<readonly GuestView[]> {
    const { items } = await this.client.call('guest.run', {
      body: { image: 'tiny', memoryMiB, networks: ['lab'], ...body },
    });
    return items;
  }

  guest(name: string): Promise<GuestView> {
    return this.client.call('guest.show', { params: { guest: name } });
  }

  async hostView(name: string): Promise<HostView> {
    return this.client.call('host.show', { params: { host: name } });
  }

  /** Waits until the guest looks so; the last look is in the error. */
  async guestIs(
    name: string,
    what: string,
    check: (guest: GuestView) => boolean,
    limitMs = 30_000,
  ): Promise<GuestView> {
    let last: GuestView | undefined;
    try {
      return await until(`${name} to be ${what}`, limitMs, async () => {
        last = await this.guest(name);
        return check(last) ? last : undefined;
      });
    } catch (error) {
      throw new Error(`${name} is not ${what}: ${JSON.stringify(last?.status)}\n${await this.newestLogs()}`, {
        cause: error,
      });
    }
  }

  inState(name: string, state: GuestView['status']['state'], limitMs?: number): Promise<GuestView> {
    return this.guestIs(name, state, (guest) => guest.status.state === state, limitMs);
  }

  async hostIs(name: string, what: string, check: (host: HostView) => boolean, limitMs = 30_000): Promise<HostView> {
    let last: HostView | undefined;
    try {
      return await until(`${name} to be ${what}`, limitMs, async () => {
        last = await this.hostView(name);
        return check(last) ? last : undefined;
      });
    } catch (error) {
      throw new Error(`${name} is not ${what}: ${JSON.stringify(last?.status)}\n${await this.newestLogs()}`, {
        cause: error,
      });
    }
  }

  /** Waits until the guest is gone from the site. */
  async gone(name: string, limitMs = 30_000): Promise<void> {
    await until(`${name} to be gone`, limitMs, async () => {
      const { items } = await this.client.call('guest.list', { query: { name } });
      return items.some((guest) => guest.name === name) ? undefined : true;
    });
  }

  async delete(...names: readonly string[]): Promise<void> {
    for (const guest of names) await this.client.call('guest.delete', { params: { guest } });
    await Promise.all(names.map((name) => this.gone(name)));
  }

  /** The host that the guest is placed on. */
  async hostOf(guest: GuestView): Promise<TestbedHost> {
    const hosts = await this.lab.hosts();
    const host = hosts.find((each) => each.id === guest.status.placement?.hostId);
    assert.ok(host, `${guest.name} is placed nowhere`);
    return this.lab.testbed.host(host.name);
  }

  /** Waits for the guest's own HTTP server. Its boot takes 3 to 6 s, a minute where the machine is overloaded. */
  async answers(guest: GuestView): Promise<void> {
    await this.lab.testbed.httpWait(addressOf(guest), { body: guest.name, timeoutMs: 120_000 });
  }

  async ask(guest: GuestView, path: string): Promise<string> {
    return (await this.lab.testbed.httpGet(addressOf(guest), path, { timeoutMs: 5_000 })).body.trim();
  }

  /** Waits until it answers after another boot than `bootId`. */
  async rebooted(guest: GuestView, bootId: string, limitMs = 120_000): Promise<string> {
    return until(`another boot of ${guest.name}`, limitMs, async () => {
      const now = (await this.lab.testbed.httpGet(addressOf(guest), '/boot-id', { timeoutMs: 500 })).body.trim();
      return now === bootId ? undefined : now;
    });
  }

  /** Types a command at the console over the API's websocket, and gives what was printed until it was done. */
  async typed(guest: string, command: string): Promise<string> {
    this.#typed += 1;
    // The shell prints the mark only when it evaluates it, not when it echoes the typing.
    const mark = `done-${this.#typed * 7}-`;
    const socket = this.client.websocket('guest.console', { guest });
    let seen = '';
    socket.on('message', (data: Buffer) => (seen += data.toString('latin1')));
    const failed = new Promise<never>((_, reject) => socket.once('error', reject));
    failed.catch(() => undefined);
    try {
      await Promise.race([new Promise<void>((open) => socket.once('open', () => open())), failed]);
      socket.send(Buffer.from(`\n${command}; echo done-$((${this.#typed} * 7))-\n`));
      await until(`the console of ${guest}`, 15_000, async () => (seen.includes(mark) ? true : undefined), 20);
      return seen;
    } finally {
      socket.terminate();
    }
  }

  async newestLogs(): Promise<string> {
    const hosts = this.lab.testbed.hosts.map(({ name }) => name);
    const parts = ['controller', ...hosts, ...hosts.flatMap((host) => [`keeper-${host}`, `guard-${host}`])];
    const logs = await Promise.all(
      parts.map(async (part) => `--- ${part}\n${(await this.lab.log(part)).slice(-4000)}`),
    );
    return logs.join('\n');
  }
}

export function addressOf(guest: GuestView): string {
  const address = guest.spec.nics[0]?.ipv4;
  assert.ok(address, `${guest.name} has no address`);
  return address;
}

/** The site refuses with exactly this code; gives the error for a closer look. */
export async function refused(code: ErrorCode, asked: Promise<unknown>): Promise<VirgaError> {
  try {
    await asked;
  } catch (error) {
    assert.ok(error instanceof VirgaError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  throw new assert.AssertionError({ message: `it was not refused; expected ${code}` });
}

/** Names of the domains that libvirt itself lists on this host. */
export async function virshList(host: TestbedHost, ...more: readonly string[]): Promise<readonly string[]> {
  const text = await host.run(['virsh', 'list', '--name', ...more]);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .toSorted();
}

/** Process of the guest's QEMU, as its host sees it. */
export async function qemuPid(host: TestbedHost, guest: string): Promise<string> {
  return (await host.run(['cat', `/run/libvirt/qemu/${guest}.pid`])).trim();
}
