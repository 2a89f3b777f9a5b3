/**
 * Request → HTTP answer of a tiny guest, image already on the host, against bare `virsh create` of the same guest on the
 * same host: what Virga adds. Ten of each, one at a time and in turn, so that both see the same machine.
 */
import type { GuestView } from '../src/api/schemas.ts';
import { uploadFile } from '../src/site/upload.ts';
import { parseXml, toXml } from '../src/libvirt/index.ts';
import { openLab, type Lab } from '../src/site/lab.ts';
import { until } from '../src/site/ready.ts';
import { tinyImage } from '../src/testbed/index.ts';
import { median, result, type BenchResult } from './kit.ts';

const rounds = 10;
const allowedMs = 500;
const host = 'alder';

async function prepare(lab: Lab): Promise<void> {
  const tiny = await tinyImage();
  const { plan } = lab.testbed;
  await uploadFile(lab.client, {
    path: tiny.path,
    name: 'tiny',
    format: tiny.format,
    sha512: tiny.sha512,
    bytes: tiny.bytes,
  });
  await lab.client.call('network.create', {
    body: {
      name: 'lab',
      mode: 'bridge',
      bridge: 'br0',
      ipv4: { cidr: plan.subnet, from: plan.guestsFirst, to: plan.guestsLast, gateway: plan.gateway },
    },
  });
}

async function gone(lab: Lab, name: string): Promise<void> {
  await lab.client.call('guest.delete', { params: { guest: name } });
  await until(`${name} to go`, 60_000, async () => {
    const { items } = await lab.client.call('guest.list', { query: { name } });
    return items.length === 0 ? true : undefined;
  });
}

const addressOf = (guest: GuestView): string => guest.spec.nics[0]?.ipv4 ?? '';

/** One guest by Virga; leaves it running. */
async function byVirga(lab: Lab, name: string): Promise<{ ms: number; guest: GuestView }> {
  const started = performance.now();
  const { items } = await lab.client.call('guest.run', {
    body: { image: 'tiny', name, memoryMiB: 128, networks: ['lab'] },
  });
  const [guest] = items;
  if (!guest) throw new Error(`${name} was not created`);
  await lab.testbed.httpWait(addressOf(guest), { body: name, timeoutMs: 90_000 });
  return { ms: performance.now() - started, guest };
}

/** The description of a running guest as a foreign domain of another name, on a disk of its own. */
async function foreignTwin(lab: Lab, name: string): Promise<string> {
  const machine = lab.testbed.host(host);
  const text = await machine.run(['virsh', 'dumpxml', '--inactive', name]);
  const xml = parseXml(text);
  for (const element of [...xml.getElementsByTagName('metadata'), ...xml.getElementsByTagName('uuid')])
    element.parentNode?.removeChild(element);
  const [domainName] = xml.getElementsByTagName('name');
  if (domainName) domainName.textContent = 'reference';
  const [disk] = xml.getElementsByTagName('disk');
  const [source] = disk?.getElementsByTagName('source') ?? [];
  const overlay = source?.getAttribute('file') ?? '';
  const info = JSON.parse(await machine.run(['qemu-img', 'info', '-U', '--output=json', overlay])) as {
    'full-backing-filename': string;
  };
  const fresh = `${machine.dir}/reference.qcow2`;
  await machine.run([
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-F',
    'qcow2',
    '-b',
    info['full-backing-filename'],
    fresh,
  ]);
  source?.setAttribute('file', fresh);
  for (const log of xml.getElementsByTagName('log')) log.setAttribute('file', `${machine.dir}/reference.log`);
  return toXml(xml);
}

/** The same guest by bare virsh. */
async function byVirsh(lab: Lab, description: string, address: string, name: string): Promise<number> {
  const machine = lab.testbed.host(host);
  await machine.exec(['tee', `${machine.dir}/reference.xml`], { input: description });
  const started = performance.now();
  await machine.run(['virsh', 'create', `${machine.dir}/reference.xml`]);
  await lab.testbed.httpWait(address, { body: name, timeoutMs: 90_000 });
  const ms = performance.now() - started;
  await machine.run(['virsh', 'destroy', 'reference']);
  return ms;
}

export async function run(): Promise<BenchResult> {
  const lab = await openLab({ hosts: [host] });
  try {
    await prepare(lab);
    await byVirga(lab, 'warm');
    await gone(lab, 'warm');
    const ours: number[] = [];
    const bare: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const name = `guest-${round}`;
      const { ms, guest } = await byVirga(lab, name);
      ours.push(ms);
      const twin = await foreignTwin(lab, name);
      await lab.client.call('guest.stop', { params: { guest: name }, body: { force: true } });
      await until(`${name} to stop`, 60_000, async () =>
        (await lab.testbed.host(host).exec(['virsh', 'domstate', name])).code === 0 ? undefined : true,
      );
      bare.push(await byVirsh(lab, twin, addressOf(guest), name));
      await gone(lab, name);
    }
    const added = median(ours) - median(bare);
    return result('start', [
      { measure: 'bare virsh create → HTTP', value: median(bare), unit: 'ms' },
      { measure: 'request → HTTP by Virga', value: median(ours), unit: 'ms' },
      { measure: 'added by Virga', value: added, unit: 'ms', bound: `≤ ${allowedMs}`, holds: added <= allowedMs },
      { measure: 'ratio', value: median(ours) / median(bare), unit: '×' },
    ]);
  } finally {
    await lab.close();
  }
}
