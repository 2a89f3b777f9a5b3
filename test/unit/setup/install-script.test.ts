import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { hasLeftovers, installScript } from '../../../src/setup/install-script.ts';
import { runScript } from '../../../src/setup/install.ts';

let root = '';
const policy = (): string => join(root, 'usr/sbin/policy-rc.d');
const cluster = (): string => join(root, 'etc/postgresql-common/createcluster.d/zz-virga-install.conf');

/** A program in apt-get's place that looks at the machine as a package's installation would. */
function apt(body: string): string {
  const path = join(root, 'apt');
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

async function condition(holds: () => boolean): Promise<void> {
  const end = performance.now() + 60_000;
  while (performance.now() < end) {
    if (holds()) return;
    await delay(10);
  }
  throw new Error('waited 60 s in vain');
}

/** True while a `flock` program has the file open: it ends as soon as it has the lock. */
function waitsFor(file: string): boolean {
  return readdirSync('/proc').some((pid) => {
    try {
      const program = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      return program === 'flock' && readlinkSync(`/proc/${pid}/fd/8`) === file;
    } catch {
      return false;
    }
  });
}

describe('the script around apt-get', () => {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'virga-install-'));
    mkdirSync(join(root, 'usr/sbin'), { recursive: true });
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test('forbids starts and the default cluster while apt-get runs, and leaves nothing', async () => {
    const look = apt(`"$ROOT/usr/sbin/policy-rc.d" postgresql start; echo "policy says $?"
cat "$ROOT"/etc/postgresql-common/createcluster.d/*; echo "args $*"`);
    const lines: string[] = [];
    const result = await runScript(['install', '-y', 'install', 'one', 'two'], root, (line) => lines.push(line), look);
    assert.equal(result.code, 0, result.output);
    assert.deepEqual(lines, ['policy says 101', 'create_main_cluster = false', 'args -y install one two']);
    assert.ok(!existsSync(policy()));
    assert.ok(!existsSync(join(root, 'etc/postgresql-common')));
  });

  test('an older policy comes back byte for byte, with its mode, also when apt-get fails', async () => {
    writeFileSync(policy(), '#!/bin/sh\nexit 104\n');
    chmodSync(policy(), 0o711);
    const before = statSync(policy());
    const result = await runScript(
      ['install', 'x'],
      root,
      undefined,
      apt('"$ROOT/usr/sbin/policy-rc.d"; echo "$?"; exit 100'),
    );
    assert.equal(result.code, 100);
    assert.equal(result.output, '101\n');
    assert.equal(readFileSync(policy(), 'utf8'), '#!/bin/sh\nexit 104\n');
    assert.equal(statSync(policy()).mode, before.mode);
    assert.equal(statSync(policy()).ino, before.ino);
    assert.ok(!hasLeftovers(root));
  });

  test('SIGTERM to its group restores', async () => {
    const script = spawn('sh', ['-c', installScript, 'virga-install', 'install'], {
      detached: true,
      env: { ...process.env, ROOT: root, APT: apt('echo running > "$ROOT/running"; exec sleep 60') },
    });
    const ended = new Promise((resolve) => script.once('exit', resolve));
    await condition(() => existsSync(join(root, 'running')));
    assert.ok(existsSync(policy()) && existsSync(cluster()) && hasLeftovers(root));
    process.kill(-Number(script.pid), 'SIGTERM');
    await ended;
    assert.ok(!existsSync(policy()) && !existsSync(cluster()) && !hasLeftovers(root));
  });

  test('kill -9 of the script is repaired by the next call, which puts the older policy back', async () => {
    writeFileSync(policy(), 'the older one\n');
    const script = spawn('sh', ['-c', installScript, 'virga-install', 'install'], {
      detached: true,
      env: { ...process.env, ROOT: root, APT: apt('echo running > "$ROOT/running"; exec sleep 60') },
    });
    const ended = new Promise((resolve) => script.once('exit', resolve));
    await condition(() => existsSync(join(root, 'running')));
    process.kill(-Number(script.pid), 'SIGKILL');
    await ended;
    assert.ok(hasLeftovers(root));
    assert.equal((await runScript(['repair'], root)).code, 0);
    assert.ok(!hasLeftovers(root));
    assert.equal(readFileSync(policy(), 'utf8'), 'the older one\n');
    assert.ok(!existsSync(cluster()));
  });

  test('when its reader dies, apt-get goes on to its end, the rest is put back, and a second one waits for it', async (t) => {
    const talk = apt(
      'i=0; while [ ! -e "$ROOT/go" ]; do echo talk || exit 9; sleep 0.01; done; echo end > "$ROOT/finished"',
    );
    const env = { ...process.env, ROOT: root, APT: talk };
    const script = spawn('sh', ['-c', installScript, 'virga-install', 'install'], { detached: true, env });
    const ended = new Promise((resolve) => script.once('exit', resolve));
    t.after(() => {
      // Its whole group, when the test fails on the way; otherwise nobody is left.
      if (script.exitCode === null && script.pid !== undefined) process.kill(-script.pid, 'SIGKILL');
    });
    await once(script.stdout, 'data');
    script.stdout.destroy();
    script.stderr.destroy();
    let repaired = false;
    const repair = runScript(['repair'], root).then(() => {
      repaired = true;
    });
    await condition(() => hasLeftovers(root));
    await condition(() => waitsFor(join(root, 'var/cache/virga/apt.lock')));
    assert.equal(repaired, false);
    assert.ok(existsSync(policy()), 'the second did not take the first one’s policy away');
    writeFileSync(join(root, 'go'), '');
    assert.equal(await ended, 0);
    await repair;
    assert.ok(existsSync(join(root, 'finished')));
    assert.ok(!hasLeftovers(root));
  });

  test('a file of somebody else in createcluster.d stays', async () => {
    const other = join(root, 'etc/postgresql-common/createcluster.d/site.conf');
    mkdirSync(join(other, '..'), { recursive: true });
    writeFileSync(other, 'data_checksums\n');
    await runScript(['install'], root, undefined, apt('true'));
    assert.equal(readFileSync(other, 'utf8'), 'data_checksums\n');
    assert.ok(!existsSync(cluster()));
  });
});
