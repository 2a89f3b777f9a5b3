/** What the benches of the host lease share: a lab with an image, a network and guests, and bare guests to compare with. */
import type { GuestView } from '../src/api/schemas.ts';
import { parseXml, toXml } from '../src/libvirt/index.ts';
import { openLab, type Lab, type LabOptions } from '../src/site/lab.ts';
import { until } from '../src/site/ready.ts';
import type { Watched } from '../src/site/poller.ts';
import { uploadFile } from '../src/site/upload.ts';
import { tinyImage } from '../src/testbed/index.ts';

export const threeHosts = ['alder', 'birch', 'cedar'] as const;
const memoryMiB = 128;

/** Opens a lab of the three hosts with the image `tiny` and the network `lab`. */
export async function benchLab(options: Partial<LabOptions> = {}): Promise<Lab> {
  const tiny = await tinyImage();
  const say = (line: string): void => console.error(`  ${line}`);
  const lab = await openLab({
    hosts: threeHosts,
    siteName: 'bench',
    say,
    capacity: { cpus: 64, memoryMiB: 16_384, diskMiB: 204_800 },
    ...options,
  });
  try {
    await uploadFile(lab.client, { ...tiny, name: 'tiny' });
    const { plan } = lab.testbed;
    const ipv4 = { cidr: plan.subnet, from: plan.guestsFirst, to: plan.guestsLast, gateway: plan.gateway };
    await lab.client.call('network.create', { body: { name: 'lab', mode: 'bridge', bridge: 'br0', ipv4 } });
    return lab;
  } catch (error) {
    await lab.close();
    throw error;
  }
}

export const addressOf = (guest: GuestView): string => guest.spec.nics[0]?.ipv4 ?? '';

let series = 0;

/** Highly available guests that prefer this host; returns when each answers from there. */
export async function runOn(lab: Lab, host: string, count: number): Promise<readonly Watched[]> {
  series += 1;
  const { items } = await lab.client.call('guest.run', {
    body: {
      image: 'tiny',
      name: `g${series}`,
      count,
      memoryMiB,
      diskMode: 'fresh',
      networks: ['lab'],
      preferredHosts: [host],
    },
  });
  const watched = items.map((guest) => ({ name: guest.name, address: addressOf(guest) }));
  for (const { name, address } of watched) await lab.testbed.httpWait(address, { body: name, timeoutMs: 180_000 });
  const id = (await lab.hosts()).find(({ name }) => name === host)?.id;
  // Only what its host reported inside the session's group may start elsewhere (rule 3).
  await until(`${items.map(({ name }) => name).join(', ')} inside on ${host}`, 30_000, async () => {
    const { items: now } = await lab.client.call('guest.list');
    const ours = now.filter(({ name }) => watched.some((each) => each.name === name));
    const ready = ours.every(
      ({ status }) => status.placement?.hostId === id && status.observed?.inside === true && status.state === 'running',
    );
    return ready ? true : undefined;
  });
  return watched;
}

export async function deleteAll(lab: Lab, guests: readonly string[]): Promise<void> {
  for (const guest of guests) await lab.client.call('guest.delete', { params: { guest } });
  await until(`${guests.join(', ')} to go`, 60_000, async () => {
    const { items } = await lab.client.call('guest.list');
    return items.some(({ name }) => guests.includes(name)) ? undefined : true;
  });
}

/** The description of a running guest as a foreign domain: another name, no id, a fresh disk at `folder`. */
export async function foreignTwin(lab: Lab, host: string, guest: string, folder: string): Promise<string> {
  const machine = lab.testbed.host(host);
  const xml = parseXml(await machine.run(['virsh', 'dumpxml', '--inactive', guest]));
  for (const element of [...xml.getElementsByTagName('metadata'), ...xml.getElementsByTagName('uuid')])
    element.parentNode?.removeChild(element);
  const [domainName] = xml.getElementsByTagName('name');
  if (domainName) domainName.textContent = `bare-${guest}`;
  const [disk] = xml.getElementsByTagName('disk');
  const [source] = disk?.getElementsByTagName('source') ?? [];
  const overlay = source?.getAttribute('file') ?? '';
  const info = JSON.parse(await machine.run(['qemu-img', 'info', '-U', '--output=json', overlay])) as {
    'full-backing-filename': string;
  };
  const fresh = `${folder}/bare-${guest}.qcow2`;
  const backing = ['-f', 'qcow2', '-F', 'qcow2', '-b', info['full-backing-filename']];
  await machine.run(['qemu-img', 'create', '-q', ...backing, fresh]);
  source?.setAttribute('file', fresh);
  for (const log of xml.getElementsByTagName('log')) log.setAttribute('file', `${folder}/bare-${guest}.log`);
  return toXml(xml);
}

/** Starts these twins at once, spread over the hosts, and ends them again. Milliseconds from `virsh create` to HTTP, each. */
export async function bareStarts(
  lab: Lab,
  hosts: readonly string[],
  twins: readonly { readonly guest: Watched; readonly xml: string }[],
): Promise<readonly number[]> {
  const machines = hosts.map((name) => lab.testbed.host(name));
  const placed = twins.map((twin, index) => ({ ...twin, machine: machines[index % machines.length] }));
  for (const { machine, guest, xml } of placed)
    await machine?.run(['tee', `${machine.dir}/bare-${guest.name}.xml`], { input: xml });
  const times = await Promise.all(
    placed.map(async ({ machine, guest }) => {
      const started = performance.now();
      await machine?.run(['virsh', 'create', `${machine.dir}/bare-${guest.name}.xml`], { timeoutMs: 60_000 });
      await lab.testbed.httpWait(guest.address, { body: guest.name, timeoutMs: 120_000 });
      return performance.now() - started;
    }),
  );
  await Promise.all(placed.map(async ({ machine, guest }) => machine?.run(['virsh', 'destroy', `bare-${guest.name}`])));
  return times;
}
