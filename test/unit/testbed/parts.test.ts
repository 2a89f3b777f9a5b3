import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { isIPv4, isIPv6 } from 'node:net';
import { cpioArchive } from '../../../src/testbed/cpio.ts';
import { addressPlan, guestAddress, hostAddress } from '../../../src/testbed/plan.ts';
import { alive, childrenOf, identify, killAll, startTime, until } from '../../../src/testbed/proc.ts';

test('a cpio archive has the bytes that the format’s description gives', () => {
  const archive = cpioArchive([
    { path: 'bin', kind: 'directory' },
    { path: 'bin/a', kind: 'file', mode: 0o755, content: Buffer.from('hello') },
    { path: 'bin/b', kind: 'symlink', target: 'a' },
  ]);
  const text = archive.toString('latin1');
  const header = (inode: number, mode: string, links: number, size: number, nameSize: number): string =>
    `070701${[inode, parseInt(mode, 8), 0, 0, links, 0, size, 0, 0, 0, 0, nameSize, 0].map((n) => n.toString(16).padStart(8, '0')).join('')}`;
  // Header and name are padded together to four bytes (110 + 4 + 2), content by itself (5 + 3).
  const expected =
    `${header(1, '040755', 2, 0, 4)}bin\0\0\0` +
    `${header(2, '100755', 1, 5, 6)}bin/a\0hello\0\0\0` +
    `${header(3, '120777', 1, 1, 6)}bin/b\0a\0\0\0` +
    `${header(0, '0', 1, 0, 11)}TRAILER!!!\0\0\0\0`;
  assert.equal(text, expected);
});

test('addresses of hosts and guests are different, and in the plan’s ranges', () => {
  const hosts = Array.from({ length: 64 }, (_, index) => hostAddress(index));
  const guests = Array.from({ length: 901 }, (_, index) => guestAddress(index));
  const all = [...hosts, ...guests, { address: addressPlan.gateway, address6: addressPlan.gateway6, mac: '' }];
  assert.equal(new Set(all.map((entry) => entry.address)).size, all.length);
  assert.equal(new Set(all.map((entry) => entry.address6)).size, all.length);
  for (const entry of all)
    assert.ok(isIPv4(entry.address) && isIPv6(entry.address6), `${entry.address} ${entry.address6}`);
  assert.equal(guests[0]?.address, addressPlan.guestsFirst);
  assert.equal(guests[0]?.address6, addressPlan.guests6First);
  assert.ok(guests.every((entry) => /^10\.77\.[0-3]\.\d+$/.test(entry.address)));
  assert.throws(() => guestAddress(-1), RangeError);
});

test('a process is known by number and start time; killAll ends only what is still itself', async () => {
  const child = spawn('sh', ['-c', 'sleep 100 & wait'], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const id = identify(child.pid ?? 0);
  assert.ok(await until(() => childrenOf(id.pid).length === 1, 5_000));
  const sleeper = identify(childrenOf(id.pid)[0] ?? 0);
  const impostor = { pid: id.pid, start: id.start + 1 };
  assert.equal(alive(impostor), false);
  assert.deepEqual(await killAll([impostor]), []);
  assert.equal(alive(id), true);
  assert.deepEqual(await killAll([id, sleeper]), []);
  await exited;
  assert.equal(startTime(id.pid), undefined);
  assert.throws(() => identify(id.pid), /has ended/);
});

test('until gives up at its limit', async () => {
  let asked = 0;
  assert.equal(await until(() => ++asked > 1e9, 30), false);
  assert.ok(asked > 1);
});
