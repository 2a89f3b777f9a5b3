/** Opens a testbed, starts processes of every kind in it, prints what must be gone after its death, and waits. */
import { spawn } from 'node:child_process';
import { openTestbed } from '../../../src/testbed/index.ts';
import { childrenOf, until } from '../../../src/testbed/proc.ts';

const testbed = await openTestbed({ hosts: ['alpha', 'beta'], name: process.argv[2] ?? 'waiting' });
const [alpha, beta] = [testbed.host('alpha'), testbed.host('beta')];
await alpha.shape({ delayMs: 1 });
const inHost = await beta.spawn(['sleep', '1000'], { output: 'ignore' });
const onSwitch = await testbed.switchSpawn(['sleep', '1000'], { output: 'ignore' });
// As a person would by hand; it leaves the session, like a database server that its controller started.
const hand = [
  'setsid',
  '--fork',
  'nsenter',
  `--net=${testbed.netns}`,
  '--',
  'sh',
  '-c',
  'echo $$; exec sleep 1000 >&- 2>&-',
];
const straggler = spawn(hand[0] ?? '', hand.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] });
let text = '';
straggler.stdout.on('data', (chunk: Buffer) => {
  text += chunk.toString();
});
await until(() => text.includes('\n'), 5_000);
const holder = Number(testbed.netns.split('/')[2]);
const libvirtd = [alpha, beta].map((host) => host.libvirtdPid() ?? 0);
const pids = [
  holder,
  alpha.pid(),
  beta.pid(),
  ...libvirtd,
  inHost.pid,
  onSwitch.pid,
  ...childrenOf(inHost.pid),
  Number(text),
];
process.stdout.write(`${JSON.stringify({ id: testbed.id, dir: testbed.dir, pids })}\n`);
setInterval(() => undefined, 1_000);
