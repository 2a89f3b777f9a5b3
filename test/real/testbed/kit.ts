import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { run } from '../../../src/setup/command.ts';
import {
  addressPlan,
  guestAddress,
  tinyImage,
  tinySeed,
  type Testbed,
  type TestbedHost,
} from '../../../src/testbed/index.ts';

export interface StartedGuest {
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly disk: string;
}

/** Domain XML of a tiny guest as an agent would write it: emulated, two virtio disks, serial console to a pty. */
function domainXml(name: string, disk: string, seed: string, mac: string, log: string): string {
  return `<domain type='qemu'>
  <name>${name}</name><memory unit='MiB'>512</memory><currentMemory unit='MiB'>128</currentMemory><vcpu current='1'>2</vcpu>
  <os><type machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='writeback'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${seed}'/><target dev='vdb' bus='virtio'/><readonly/></disk>
    <interface type='bridge'><source bridge='br0'/><mac address='${mac}'/><model type='virtio'/></interface>
    <serial type='pty'><log file='${log}' append='on'/><target port='0'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'/>
  </devices>
</domain>`;
}

/** Makes overlay, seed and domain of guest number `index` on the host and starts it with virsh. */
export async function startGuest(
  host: TestbedHost,
  name: string,
  index: number,
  options: { readonly version?: 1 | 2; readonly userData?: string } = {},
): Promise<StartedGuest> {
  const image = await tinyImage();
  const { address, address6, mac } = guestAddress(index);
  const disk = join(host.dir, `${name}.qcow2`);
  const seed = join(host.dir, `${name}.iso`);
  await run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image.path, disk]);
  const { gateway } = addressPlan;
  const networkConfig =
    options.version === 1
      ? `version: 1\nconfig:\n- type: physical\n  name: eth0\n  mac_address: "${mac}"\n  mtu: 1400\n  subnets:\n  - type: static\n    address: ${address}\n    netmask: 255.255.252.0\n    gateway: ${gateway}\n  - {type: static6, address: "${address6}/64"}\n`
      : `version: 2\nethernets:\n  nic0:\n    match:\n      macaddress: "${mac}"\n    mtu: 1400\n    addresses: ["${address}/22", "${address6}/64"]\n    routes:\n      - to: default\n        via: ${gateway}\n    nameservers:\n      addresses: [${gateway}]\n`;
  await tinySeed(seed, {
    metaData: `instance-id: ${name}-1\nlocal-hostname: ${name}\n`,
    networkConfig,
    ...(options.userData === undefined ? {} : { userData: options.userData }),
  });
  const xml = join(host.dir, `${name}.xml`);
  await writeFile(xml, domainXml(name, disk, seed, mac, join(host.dir, `${name}.log`)));
  await host.run(['virsh', 'create', xml], { timeoutMs: 60_000 });
  return { name, address, address6, disk };
}

/** A UDP echo server inside a host. */
export interface EchoServer extends AsyncDisposable {
  readonly address: string;
  /** Datagrams that have arrived. */
  received(): number;
}

const echoProgram = `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (message, from) => { process.stdout.write('.'); socket.send(message, from.port, from.address); });
socket.bind(7, () => process.stdout.write('ready\\n'));
`;

export async function echoServer(host: TestbedHost): Promise<EchoServer> {
  const server = await host.spawn([process.execPath, '-e', echoProgram]);
  let count = 0;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.stdout?.on('data', (chunk: Buffer) => {
    const text = chunk.toString();
    if (text.includes('ready')) resolve();
    count += text.split('.').length - 1;
  });
  server.stderr?.on('data', (chunk: Buffer) => reject(new Error(chunk.toString())));
  await promise;
  return {
    address: host.address,
    received: () => count,
    [Symbol.asyncDispose]: async () => {
      server.kill('SIGKILL');
      await server.exited;
    },
  };
}

/** Sends `count` datagrams 2 ms apart from the switch; milliseconds of each that came back within 0.5 s. */
export async function pingTimes(testbed: Testbed, server: EchoServer, count: number): Promise<number[]> {
  const program = `
const socket = require('node:dgram').createSocket('udp4');
const sent = []; const times = [];
socket.on('message', (m) => { times.push(performance.now() - sent[m.readUInt32LE(0)]); if (times.length === ${count}) done(); });
socket.on('error', () => {});
const done = () => { console.log(JSON.stringify(times)); process.exit(0); };
const next = () => {
  if (sent.length === ${count}) { setTimeout(done, 500); return; }
  const m = Buffer.alloc(64); m.writeUInt32LE(sent.length); sent.push(performance.now());
  socket.send(m, 7, '${server.address}'); setTimeout(next, 2);
};
next();`;
  const result = await testbed.switchExec([process.execPath, '-e', program]);
  return JSON.parse(result.stdout) as number[];
}

/** Kilobits per second of a TCP stream of so many bytes from the host to the switch. */
export async function throughput(testbed: Testbed, host: TestbedHost, bytes: number): Promise<number> {
  const sink = await testbed.switchSpawn([
    process.execPath,
    '-e',
    `require('node:net').createServer((c) => { c.resume(); c.on('end', () => c.end('done')); }).listen(9009, () => console.log('ready'))`,
  ]);
  try {
    if (sink.stdout !== undefined) await once(sink.stdout, 'data');
    const program = `
const c = require('node:net').connect(9009, '${addressPlan.gateway}', () => { globalThis.t = performance.now(); c.end(Buffer.alloc(${bytes})); });
c.on('data', () => { console.log(performance.now() - t); process.exit(0); });`;
    const ms = Number(await host.run([process.execPath, '-e', program]));
    return (bytes * 8) / ms;
  } finally {
    sink.kill('SIGKILL');
    await sink.exited;
  }
}

/** Process id (from outside) of the guest's QEMU in this host. */
export function guestProcess(host: TestbedHost, guest: string): number {
  const mine = readlinkSync(`/proc/${host.pid()}/ns/pid`);
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      if (command.includes(`guest=${guest},`) && readlinkSync(`/proc/${name}/ns/pid`) === mine) return Number(name);
    } catch {
      // It ended while it was looked at.
    }
  }
  throw new Error(`no process of guest ${guest} in ${host.name}`);
}
