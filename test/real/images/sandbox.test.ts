import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile, chown, chmod, mkdir } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runSandboxed, sandboxCommand, type SandboxJob, type SandboxResult } from '../../../src/effects/sandbox.ts';
import { eventually, noise, ownFolder } from '../../unit/images/kit.ts';

const MiB = 1024 ** 2;
const limits = { cpuSeconds: 20, memoryBytes: 1024 * MiB, fileBytes: 8 * MiB, openFiles: 32 };

function job(program: string, args: readonly string[], more: Partial<SandboxJob> = {}): SandboxJob {
  return { program: `/usr/bin/${program}`, args, readable: [], writable: [], limits, timeoutMs: 20_000, ...more };
}

/** Runs a command line as the ordinary user 65533. */
async function asOrdinaryUser(command: readonly string[]): Promise<Omit<SandboxResult, 'end'>> {
  const [program, ...args] = command;
  const child = spawn(program ?? '', args, { env: {}, cwd: '/', uid: 65_533, gid: 65_533, timeout: 20_000 });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 137, ...said };
}

/** As root runs it, and as the controller's own user does. */
const ways: readonly [string, (job: SandboxJob) => Promise<Omit<SandboxResult, 'end'>>][] = [
  ['as root', runSandboxed],
  ['as an ordinary user', async (job) => await asOrdinaryUser(sandboxCommand(job, 65_533))],
];

async function processesWith(word: string): Promise<number> {
  let found = 0;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.split('\0').includes(word)) found++;
  }
  return found;
}

describe('the sandbox shows a tool', () => {
  for (const [name, run] of ways) {
    it(`only /usr and the named files (${name})`, async () => {
      const folder = await ownFolder();
      await chmod(folder, 0o755);
      const [given, secret, result] = ['given', 'secret', 'result'].map((file) => join(folder, file)) as [
        string,
        string,
        string,
      ];
      for (const file of [given, secret, result]) await writeFile(file, `${file} text`, { mode: 0o644 });
      const owner = name === 'as root' ? 65_534 : 65_533;
      await chown(result, owner, owner);
      const files = { readable: [{ from: given, to: '/in/a' }], writable: [{ from: result, to: '/out/b' }] };
      const script = [
        'cat /in/a',
        `cat ${secret} /etc/passwd /etc/hostname /proc/1/cmdline && echo LEAK`,
        '(echo x > /in/a) && echo LEAK; (echo x > /in/c) && echo LEAK; (echo x > /out/c) && echo LEAK; (echo x > /usr/c) && echo LEAK',
        '(echo x > /dev/c) && echo LEAK; mkdir /tmp && echo LEAK; ln -s /etc/passwd /out/link && echo LEAK; rm -f /out/b && echo LEAK',
        'cp /in/a /out/b; ls -a /; id -u',
      ].join('\n');
      const done = await run(job('sh', ['-c', script], files));
      assert.equal(done.code, 0, done.stderr);
      assert.ok(done.stdout.startsWith(`${given} text`));
      assert.doesNotMatch(done.stdout, /LEAK|secret text|root:/);
      const root = done.stdout.slice(`${given} text`.length).trim().split('\n');
      assert.deepEqual(
        root.slice(2, -1).filter((entry) => !entry.includes('ld.so')),
        ['bin', 'dev', 'etc', 'in', 'lib', 'lib64', 'out', 'usr'],
      );
      assert.equal(root.at(-1), '65534');
      assert.equal(await readFile(result, 'utf8'), `${given} text`);
      assert.equal((await stat(result)).uid, owner);
    });

    it(`no network, no environment, no capability, no way to more (${name})`, async () => {
      const server = createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
      await once(server, 'listening');
      try {
        const { port } = server.address() as AddressInfo;
        const connect = `exec 3<>/dev/tcp/127.0.0.1/${port} && cat <&3`;
        // The control: the same words reach it from outside.
        assert.equal((await asOrdinaryUser(['/usr/bin/bash', '-c', connect])).stdout, 'hello');
        const inside = await run(job('bash', ['-c', connect]));
        assert.notEqual(inside.code, 0);
        assert.match(inside.stderr, /refused|unreachable/i);
      } finally {
        server.close();
      }
      process.env['VIRGA_TEST_SECRET'] = 'in the environment';
      const env = await run(job('env', []));
      assert.deepEqual(
        env.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('PWD=')),
        [],
      );
      const caps = await run(job('setpriv', ['--dump', '--dump']));
      assert.match(caps.stdout, /Effective capabilities: \[none\]/);
      assert.match(caps.stdout, /Capability bounding set: \[none\]/);
      assert.match(caps.stdout, /no_new_privs: 1/);
      const mount = await run(
        job('unshare', ['--user', '--map-root-user', '--mount', '/usr/bin/mount', '-t', 'proc', 'x', '/in']),
      );
      assert.notEqual(mount.code, 0);
    });
  }
});

describe('the sandbox ends a tool', () => {
  it('when its time is over, with everything that it started', async () => {
    const script = 'sleep 86421.25 & setsid sleep 86421.25 & sleep 86421.25';
    const begun = performance.now();
    const done = await runSandboxed(job('sh', ['-c', script], { timeoutMs: 300 }));
    assert.equal(done.end, 'timeout');
    assert.ok(performance.now() - begun < 5000);
    await eventually(async () => (await processesWith('86421.25')) === 0, 'all processes are gone');
  });

  it('when it is told to', async () => {
    const abort = new AbortController();
    const running = runSandboxed(job('sleep', ['86422.25'], { signal: abort.signal }));
    await eventually(async () => (await processesWith('86422.25')) > 0, 'it runs');
    abort.abort();
    assert.equal((await running).end, 'aborted');
    await eventually(async () => (await processesWith('86422.25')) === 0, 'it is gone');
    assert.equal((await runSandboxed(job('true', [], { signal: abort.signal }))).end, 'aborted');
  });

  it('at whatever moment of its beginning', async () => {
    for (let tenths = 0; tenths < 120; tenths += 4) {
      const done = await runSandboxed(job('sleep', ['86424.25'], { timeoutMs: tenths / 10 }));
      assert.equal(done.end, 'timeout');
    }
    await eventually(async () => (await processesWith('86424.25')) === 0, 'all are gone');
  });

  it('when the process that started it is killed', async () => {
    const module = new URL('../../../src/effects/sandbox.ts', import.meta.url).href;
    const order = JSON.stringify(job('sleep', ['86423.25']));
    const script = `import { runSandboxed } from '${module}'; await runSandboxed(${order});`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
    try {
      // bubblewrap, its init, and the tool itself
      await eventually(async () => (await processesWith('86423.25')) >= 3, 'it runs');
    } finally {
      child.kill('SIGKILL');
    }
    await eventually(async () => (await processesWith('86423.25')) === 0, 'it is gone');
  });

  it('at its limit of processor time, file size, memory and output', async () => {
    const folder = await ownFolder();
    const file = join(folder, 'out');
    await writeFile(file, '', { mode: 0o666 });
    await chmod(file, 0o666);
    const spin = await runSandboxed(job('sh', ['-c', 'while :; do :; done'], { limits: { ...limits, cpuSeconds: 1 } }));
    assert.equal(spin.end, 'cpu');
    const writable = [{ from: file, to: '/out/x' }];
    const large = await runSandboxed(job('dd', ['if=/dev/zero', 'of=/out/x', 'bs=1M', 'count=32'], { writable }));
    assert.equal(large.end, 'file-size');
    assert.equal((await stat(file)).size, limits.fileBytes);
    const block = ['if=/dev/zero', 'of=/dev/null', 'bs=300M', 'count=1'];
    assert.equal((await runSandboxed(job('dd', block))).code, 0);
    const hungry = await runSandboxed(job('dd', block, { limits: { ...limits, memoryBytes: 200 * MiB } }));
    assert.equal(hungry.code, 1);
    assert.match(hungry.stderr, /memory exhausted/);
    const chatty = await runSandboxed(job('yes', []));
    assert.equal(chatty.end, 'output');
    assert.ok(chatty.stdout.length < MiB);
  });

  it('and says what was wrong with the sandbox itself', async () => {
    const missing = [{ from: '/nonexistent/file', to: '/in/a' }];
    await assert.rejects(runSandboxed(job('true', [], { readable: missing })), {
      code: 'setup',
      message: /nonexistent/,
    });
  });
});

describe('a folder of the data', () => {
  it('is no place for the tool, not even to look', async () => {
    const folder = await ownFolder();
    await mkdir(join(folder, 'deep'));
    await writeFile(join(folder, 'deep', 'x'), noise(10), { mode: 0o644 });
    await chmod(join(folder, 'deep', 'x'), 0o644);
    const readable = [{ from: join(folder, 'deep', 'x'), to: join(folder, 'deep', 'x') }];
    await writeFile(join(folder, 'beside'), 'beside', { mode: 0o644 });
    const done = await runSandboxed(
      job('sh', ['-c', `ls ${folder} ${folder}/deep; wc -c < ${folder}/deep/x`], { readable }),
    );
    assert.match(done.stdout, /deep:\nx\n10\n$/);
    assert.doesNotMatch(done.stdout, /beside/);
  });
});
