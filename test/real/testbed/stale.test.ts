import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { cleanStale, closeByName, openTestbed } from '../../../src/testbed/index.ts';
import { alive, identify, networkNamespace, processesIn, type ProcessId } from '../../../src/testbed/proc.ts';
import { testbedsDir } from '../../../src/testbed/state.ts';

interface Opened {
  readonly id: string;
  readonly dir: string;
  readonly pids: readonly number[];
}

/** A process that opens a testbed, starts things in it, says what, and then waits to be killed. */
async function opener(name: string): Promise<{ opened: Opened; ids: ProcessId[]; kill: () => Promise<void> }> {
  const program = join(import.meta.dirname, 'open-and-wait.ts');
  const child = spawn(process.execPath, [program, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  for await (const line of createInterface({ input: child.stdout })) {
    const opened = JSON.parse(line) as Opened;
    const kill = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
    };
    return { opened, ids: opened.pids.map(identify), kill };
  }
  throw new Error('the opener said nothing');
}

describe('clean-up', { timeout: 60_000 }, () => {
  test('kill -9 of the opener, then cleanStale: no process, namespace, mount or file is left', async () => {
    const { opened, ids, kill } = await opener('stale-1');
    const namespaces = new Set(opened.pids.map((pid) => networkNamespace(pid) ?? ''));
    assert.ok(namespaces.size === 3, 'a switch and two hosts');
    const straggler = ids.at(-1);
    assert.ok(ids.length >= 6 && straggler !== undefined && ids.every(alive));
    await kill();
    assert.ok(alive(straggler), 'what left the session lives on until it is cleaned');
    assert.deepEqual(
      (await cleanStale()).filter((name) => name === 'stale-1'),
      ['stale-1'],
    );
    assert.deepEqual(ids.filter(alive), []);
    assert.deepEqual(processesIn(namespaces), []);
    assert.ok(!existsSync(opened.dir));
    assert.ok(!existsSync(join(testbedsDir, opened.id)));
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(opened.id));
    assert.deepEqual(
      (await cleanStale()).filter((name) => name === 'stale-1'),
      [],
    );
  });

  test('a living testbed is left alone by cleanStale, and closed by name from another process', async () => {
    const { opened, ids, kill } = await opener('stale-2');
    try {
      assert.ok(!(await cleanStale()).includes('stale-2'));
      assert.ok(ids.every(alive));
      assert.equal(await closeByName('stale-2'), true);
      assert.deepEqual(ids.filter(alive), []);
      assert.ok(!existsSync(opened.dir));
      assert.equal(await closeByName('stale-2'), false);
    } finally {
      await kill();
      await cleanStale();
    }
  });

  test('a given directory stays, only what the testbed made in it goes; when opening fails nothing is left', async () => {
    const dir = join('/var/tmp', `virga-given-${process.pid}`);
    const testbed = await openTestbed({ hosts: ['alpha'], dir });
    const before = readdirSync(testbedsDir).length;
    await testbed.close();
    try {
      assert.deepEqual(readdirSync(dir), []);
      // A host whose directory cannot be made: a file is in its place.
      await import('node:fs/promises').then((fs) => fs.writeFile(join(dir, 'alpha'), ''));
      await assert.rejects(openTestbed({ hosts: ['alpha'], dir }));
      assert.equal(existsSync(testbedsDir) ? readdirSync(testbedsDir).length : 0, before - 1);
    } finally {
      await import('node:fs/promises').then((fs) => fs.rm(dir, { recursive: true, force: true }));
    }
  });
});
