import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { candidates, haveLists, unpackPackages } from '../../../src/setup/apt.ts';
import { execute } from '../../../src/setup/command.ts';
import { hasLeftovers } from '../../../src/setup/install-script.ts';
import { withLock } from '../../../src/setup/lock.ts';
import { install, missing, operatingSystem, required } from '../../../src/setup/packages.ts';

const skip = operatingSystem().family !== 'debian' && 'this system is not of the Debian family';

test('the distribution knows every package that is needed, and would remove nothing for them', { skip }, async () => {
  assert.ok(await haveLists());
  const names = required(['controller', 'agent', 'testbed']).map((entry) => entry.package);
  const known = await candidates(names);
  assert.deepEqual(
    names.filter((name) => !known.has(name)),
    [],
  );
  const plan = await execute(['apt-get', '-s', '--no-install-recommends', '--no-remove', 'install', ...names]);
  assert.equal(plan.code, 0, plan.stderr);
  assert.doesNotMatch(plan.stdout, /^Remv /m);
});

test('after an installation nothing is missing; the next call asks nothing and does nothing', { skip }, async () => {
  const lines: string[] = [];
  const purposes = ['controller', 'agent', 'testbed'] as const;
  const yes = (): Promise<boolean> => Promise.resolve(true);
  await install({ purposes, confirm: yes, out: (line) => lines.push(line) });
  assert.deepEqual(await missing(purposes), []);
  assert.equal(hasLeftovers(''), false);
  let asked = 0;
  const count = (): Promise<boolean> => {
    asked++;
    return yes();
  };
  const again = await install({ purposes, confirm: count, out: (line) => lines.push(line) });
  assert.deepEqual(again.packages, []);
  assert.equal(asked, 0);
});

test('a package that does not exist is named in apt’s own words', { skip }, async () => {
  const dir = await mkdtemp('/var/tmp/virga-unpack-');
  try {
    await assert.rejects(
      unpackPackages(['virga-no-such-package'], dir),
      /Unable to locate package virga-no-such-package/,
    );
    const root = await unpackPackages(['busybox-static'], join(dir, 'good'));
    assert.ok(existsSync(join(root, 'bin/busybox')));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('a lock is one at a time, says who is in the way, and is free again after', async () => {
  const dir = await mkdtemp('/var/tmp/virga-lock-');
  const path = join(dir, 'lock');
  try {
    await withLock(path, 'the first', 1_000, async () => {
      await assert.rejects(
        withLock(path, 'the first', 50, () => Promise.resolve()),
        /the first is under way in another process/,
      );
    });
    assert.equal(await withLock(path, 'the second', 1_000, () => Promise.resolve(7)), 7);
    await assert.rejects(
      withLock(path, 'x', 1_000, () => Promise.reject(new Error('its own'))),
      /its own/,
    );
    assert.equal(await withLock(path, 'x', 1_000, () => Promise.resolve(8)), 8);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
