/** The site as it is, as a site file: applied to the same site it changes nothing. */
import { Document } from 'yaml';
import type { GuestView, HostView, ImageView, NetworkView, SiteSettingsView } from '../schemas.ts';
import { sizeText } from './compare.ts';
import { fenceEntry } from './hosts.ts';
import { timeText } from './settings.ts';
import type { SiteState } from './types.ts';

const nonEmpty = <T extends object>(value: T): T | undefined => (Object.keys(value).length > 0 ? value : undefined);

type Plain = Record<string, unknown>;
const given = (value: Plain): Plain =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));

const amounts = (of: {
  cpus?: number | undefined;
  memoryMiB?: number | undefined;
  diskMiB?: number | undefined;
}): Plain | undefined => nonEmpty(given({ cpus: of.cpus, memory: size(of.memoryMiB), disk: size(of.diskMiB) }));
/** Sizes that are no whole number of MiB, or zero, cannot be said in a site file and are left as they are. */
const size = (mib: number | undefined): string | undefined =>
  mib === undefined || mib < 1 || !Number.isInteger(mib) ? undefined : sizeText(mib);

const settingsEntry = ({ lease, leaseProfile, onHostLeave, lapseGraceSeconds }: SiteSettingsView): Plain => ({
  lease:
    leaseProfile === 'own'
      ? { length: timeText(lease.lengthMs), bound: timeText(lease.boundMs), drift: lease.drift }
      : { profile: leaseProfile },
  onHostLeave,
  lapseGrace: `${lapseGraceSeconds}s`,
});

const hostEntry = ({ spec, labels }: HostView): Plain =>
  given({
    labels: nonEmpty(labels),
    cordoned: spec.cordoned,
    cordonReason: spec.cordoned ? spec.cordonReason : undefined,
    reserved: amounts(spec.reserved),
    overcommit: { ...spec.overcommit },
    capacity: spec.capacity && amounts(spec.capacity),
    fence: spec.fence?.map((each) => {
      const { delay, ...device } = fenceEntry(each);
      return delay === undefined ? device : { ...device, delay: timeText(delay) };
    }),
  });

const networkEntry = ({ spec, labels }: NetworkView): Plain =>
  given({
    mode: spec.mode,
    bridge: spec.bridge,
    ipv4: spec.ipv4 && { ...spec.ipv4 },
    ipv6: spec.ipv6 && { ...spec.ipv6 },
    mtu: spec.mtu,
    dns: nonEmpty(
      given({
        servers: spec.dns.servers.length > 0 ? [...spec.dns.servers] : undefined,
        search: spec.dns.search.length > 0 ? [...spec.dns.search] : undefined,
      }),
    ),
    labels: nonEmpty(labels),
  });

const imageEntry = ({ spec, status, labels }: ImageView): Plain =>
  given({
    format: spec.format,
    sha512: status.givenSha512 ?? spec.expectedSha512,
    description: spec.description,
    labels: nonEmpty(labels),
  });

function guestEntry(guest: GuestView, state: SiteState): Plain {
  const { spec, labels } = guest;
  const name = (
    items: readonly { readonly id: string; readonly name: string }[],
    id: string | undefined,
  ): string | undefined => items.find((each) => each.id === id)?.name;
  const nics = spec.nics.map((nic) => ({
    network: name(state.networks, nic.networkId) ?? nic.networkId,
    address: nic.ipv4 ?? nic.ipv6,
  }));
  const addresses = Object.fromEntries(
    nics.flatMap((nic) => (nic.address === undefined ? [] : [[nic.network, nic.address]])),
  );
  return given({
    image: name(state.images, spec.image?.id) ?? spec.image?.id,
    cpus: spec.cpus,
    maxCpus: spec.maxCpus,
    memory: sizeText(spec.memoryMiB),
    maxMemory: sizeText(spec.maxMemoryMiB),
    disk: sizeText(spec.diskMiB),
    diskMode: spec.diskMode,
    networks: nics.map((nic) => nic.network),
    addresses: nonEmpty(addresses),
    labels: nonEmpty(labels),
    userData: spec.userData,
    sshKeys: spec.sshKeys.length > 0 ? [...spec.sshKeys] : undefined,
    restart: spec.restart,
    host: name(state.hosts, spec.hostId) ?? spec.hostId,
    ha: spec.ha,
    priority: spec.priority,
    prefer: spec.preferredHosts?.flatMap((id) => name(state.hosts, id) ?? []),
    failBack: spec.failBack,
    limits: spec.limits && {
      ...given({ restarts: spec.limits.restarts, moves: spec.limits.moves }),
      window: `${spec.limits.windowSeconds}s`,
    },
    grace: `${spec.graceSeconds}s`,
    firmware: spec.machine.firmware,
    machineType: spec.machine.type,
    cpuModel: spec.machine.cpuModel,
  });
}

/** Why an object is not in the file, or undefined. */
function skipped(document: GuestView | ImageView): string | undefined {
  if (document.kind === 'image')
    return document.status.state === 'ready' ? undefined : `it is ${document.status.state}`;
  if (document.deletionAt !== undefined) return 'it is being deleted';
  return document.spec.image ? undefined : 'it was adopted, and has no image';
}

/** YAML text. What cannot be said in a site file is named in a comment. */
export function exportSite(site: string, state: SiteState): string {
  const byName = <T extends { readonly name: string }>(items: readonly T[]): T[] =>
    [...items].sort((a, b) => (a.name < b.name ? -1 : 1));
  const left: string[] = [];
  const keep = <T extends GuestView | ImageView>(items: readonly T[]): T[] =>
    byName(items).filter((each) => {
      const why = skipped(each);
      if (why !== undefined) left.push(` ${each.kind} ${each.name}: ${why}`);
      return why === undefined;
    });
  const entries = <T extends { readonly name: string }>(items: readonly T[], entry: (item: T) => Plain): Plain =>
    Object.fromEntries(items.map((each) => [each.name, entry(each)]));
  const content = given({
    site,
    settings: state.settings && settingsEntry(state.settings),
    hosts: nonEmpty(entries(byName(state.hosts), hostEntry)),
    networks: nonEmpty(entries(byName(state.networks), networkEntry)),
    images: nonEmpty(entries(keep(state.images), imageEntry)),
    guests: nonEmpty(entries(keep(state.guests), (guest) => guestEntry(guest, state))),
  });
  const document = new Document(content, { version: '1.2', aliasDuplicateObjects: false });
  document.commentBefore = [
    ' Site file of Virga. Images have no file or url here: give one to bring them to another site.',
    ...(left.length > 0 ? [' Not in this file:', ...left] : []),
  ].join('\n');
  return document.toString({ lineWidth: 0 });
}
