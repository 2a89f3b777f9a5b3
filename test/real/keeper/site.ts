/** Keepers and guards as real processes with certificates of one site, and a controller's end of the wire. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { openSync, closeSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { keeperClient, type KeeperClient } from '../../../src/agent/keeper-client.ts';
import type { Voter, VoterList } from '../../../src/core/ha/types.ts';
import { profiles } from '../../../src/core/ha/margin.ts';
import { selfArgv } from '../../../src/site/paths.ts';
import { end, testSite, type End, type TestSite } from '../../unit/effects/wire-kit.ts';
import { cleanHost, ended, until } from './kit.ts';

export interface TestKeeper {
  readonly id: string;
  readonly address: string;
  readonly door: KeeperClient;
  readonly dataDir: string;
  start(): Promise<void>;
  process(): ChildProcess;
  log(): Promise<string>;
}

/** A free UDP port of this machine. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

/** Its guard is its own child no more: it is found by the pid that it left. */
async function endGuard(hostId: string): Promise<void> {
  const text = await readFile(`/run/virga/keeper/${hostId.slice(0, 8)}/guard.pid`, 'utf8').catch(() => '');
  const pid = Number(text);
  if (!Number.isInteger(pid) || pid < 2) return;
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  if (command.split('\0').includes('guard')) process.kill(pid, 'SIGKILL');
}

export async function keeper(
  t: TestContext,
  site: TestSite,
  name: string,
  role: 'keeper' | 'witness' = 'keeper',
): Promise<TestKeeper> {
  const id = randomUUID();
  const dataDir = await mkdtemp(join(tmpdir(), 'virga-keeper-'));
  const address = `127.0.0.1:${await freePort()}`;
  const identity = { ...(await site.host(id)), url: 'https://127.0.0.1:1', siteId: site.siteId, siteName: 'test' };
  await writeFile(join(dataDir, 'credentials.json'), JSON.stringify({ ...identity, hostId: id, hostName: name }));
  const door = keeperClient(id, name);
  const logFile = join(dataDir, 'keeper.log');
  let child: ChildProcess | undefined;
  t.after(async () => {
    door.close();
    if (child) await ended(child);
    await endGuard(id);
    await rm(dataDir, { recursive: true, force: true });
  });
  cleanHost(t, id);
  return {
    id,
    address,
    door,
    dataDir,
    process() {
      if (!child) throw new Error(`${name} does not run`);
      return child;
    },
    log: async () => readFile(logFile, 'utf8'),
    async start() {
      const [program = '', ...args] = selfArgv(role, 'run', '--data', dataDir, '--listen', address);
      const output = openSync(logFile, 'a');
      child = spawn(program, args, { stdio: ['ignore', output, output] });
      closeSync(output);
      await until(
        `${name} answers`,
        async () =>
          door.state().then(
            () => true,
            () => false,
          ),
        15_000,
      );
    },
  };
}

export interface KeeperSite {
  readonly site: TestSite;
  readonly leader: End;
  readonly keepers: readonly TestKeeper[];
}

/** Started keepers that know each other as voters by a list of the controller. */
export async function keeperSite(t: TestContext, roles: readonly ('keeper' | 'witness')[]): Promise<KeeperSite> {
  const site = await testSite();
  const leader = await end(site, 'controller');
  t.after(async () => leader.wire.close());
  const keepers: TestKeeper[] = [];
  for (const [index, role] of roles.entries()) keepers.push(await keeper(t, site, `h${index}`, role));
  await Promise.all(keepers.map(async (each) => each.start()));
  const voters: Voter[] = [];
  for (const [index, { id, door, address }] of keepers.entries()) {
    const { diskId } = (await door.state()).lease;
    voters.push({ keeperId: id, diskId, name: `h${index}`, votes: 1, addresses: [address] });
  }
  const epoch = { number: 1, id: leader.id };
  const version = { forced: 0, epoch, number: 1 };
  const list: VoterList = { siteId: site.siteId, version, profile: profiles.default, voters };
  const stored = new Set<string>();
  leader.wire.onMessage((from, message) => {
    if (message.type === 'list-answer' && message.stored) stored.add(from.id);
  });
  await until('every keeper has the list', () => {
    for (const { id, address } of keepers)
      if (!stored.has(id)) leader.wire.send(id, { type: 'list', epoch, list }, [address]);
    return stored.size === keepers.length;
  });
  return { site, leader, keepers };
}
