import { VirgaError } from '../errors.ts';
import type { GuestSpec } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import type { Image } from '../model/image.ts';
import type { Network } from '../model/network.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { chooseMachine } from '../place/machine.ts';
import { utf8Bytes } from '../util.ts';
import { checkText, checkWhole, invalid, limits } from './check.ts';
import type { RunGuestInput } from './inputs.ts';
import { recoveryFrom } from './recovery-input.ts';
import { resolve } from './resolve.ts';

export const guestDefaults = { cpus: 1, memoryMiB: 512, graceSeconds: 30 } as const;

const sshKey = /^(ssh-(ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/]+={0,3}( .*)?$/;

/** What all guests of one request share, checked and completed. */
export interface GuestPlan {
  readonly image: Image;
  readonly networks: readonly Network[];
  /** Network id → address that was asked for. */
  readonly fixed: ReadonlyMap<string, string>;
  readonly host: Host | undefined;
  readonly spec: Omit<GuestSpec, 'nics'>;
}

export function planGuest(snapshot: Snapshot, input: RunGuestInput): GuestPlan {
  const image = readyImage(snapshot, input.image);
  const networks = chosenNetworks(snapshot, input.networks);
  const host = input.host === undefined ? undefined : resolve(snapshot, 'host', input.host);
  const sizes = { ...checkSizes(input), diskMiB: diskFor(image, input.diskMiB) };
  const machine = machineFor(snapshot, host, input);
  const userData = checkUserData(input.userData);
  return {
    image,
    networks,
    fixed: fixedAddresses(networks, input.addresses),
    host,
    spec: recoveryFrom<GuestPlan['spec']>(
      snapshot,
      {
        image: { id: image.id, sha512: image.status.stored.sha512, format: image.spec.format },
        ...sizes,
        diskMode: input.diskMode ?? 'keep',
        ...(userData === undefined ? {} : { userData }),
        sshKeys: checkKeys(input.sshKeys ?? []),
        restart: input.restart ?? 'on-failure',
        ...(host ? { hostId: host.id } : {}),
        power: 'on',
        paused: false,
        graceSeconds: checkGrace(input.graceSeconds ?? guestDefaults.graceSeconds),
        startSeq: 1,
        rebootSeq: 0,
        rebuildSeq: 0,
        snapshots: [],
        machine,
      },
      input,
    ),
  };
}

type ReadyImage = Image & { status: { stored: { sha512: string }; virtualBytes: number } };

function readyImage(snapshot: Snapshot, ref: string): ReadyImage {
  const image = resolve(snapshot, 'image', ref);
  if (!isReady(image))
    throw new VirgaError('not_ready', { kind: 'image', name: image.name, state: image.status.state });
  return image;
}

function isReady(image: Image): image is ReadyImage {
  const { state, stored, virtualBytes } = image.status;
  return state === 'ready' && stored !== undefined && virtualBytes !== undefined && image.deletionAt === undefined;
}

/** Named ones; else the network `default`, else the only one, else none. */
function chosenNetworks(snapshot: Snapshot, refs: readonly string[] | undefined): readonly Network[] {
  if (refs === undefined) {
    const usual = snapshot.byName('network', 'default');
    if (usual) return [usual];
    return snapshot.count('network') === 1 ? [...snapshot.all('network')] : [];
  }
  checkWhole('the number of networks', refs.length, 0, limits.networksPerGuest);
  const networks = refs.map((ref) => resolve(snapshot, 'network', ref));
  const twice = networks.find((network, index) => networks.indexOf(network) !== index);
  if (twice) throw invalid(`the network "${twice.name}" is named twice`);
  return networks;
}

function fixedAddresses(
  networks: readonly Network[],
  addresses: Readonly<Record<string, string>> | undefined,
): ReadonlyMap<string, string> {
  const fixed = new Map<string, string>();
  for (const [ref, address] of Object.entries(addresses ?? {})) {
    const network = networks.find((each) => each.name === ref || each.id === ref);
    if (!network) throw invalid(`an address is given for the network "${ref}", which the guest is not in`);
    fixed.set(network.id, address);
  }
  return fixed;
}

/** CPUs and memory; the upper bounds are the sizes themselves unless they are given. */
function checkSizes(input: RunGuestInput): Pick<GuestSpec, 'cpus' | 'maxCpus' | 'memoryMiB' | 'maxMemoryMiB'> {
  const cpus = input.cpus ?? guestDefaults.cpus;
  const memoryMiB = input.memoryMiB ?? guestDefaults.memoryMiB;
  checkWhole('the number of CPUs', cpus, 1, limits.cpus);
  checkWhole('the memory in MiB', memoryMiB, limits.smallestMemoryMiB, limits.memoryMiB);
  const maxCpus = input.maxCpus ?? cpus;
  const maxMemoryMiB = input.maxMemoryMiB ?? memoryMiB;
  checkWhole('the upper bound of CPUs', maxCpus, cpus, limits.cpus);
  checkWhole('the upper bound of memory in MiB', maxMemoryMiB, memoryMiB, limits.memoryMiB);
  return { cpus, maxCpus, memoryMiB, maxMemoryMiB };
}

function diskFor(image: ReadyImage, wish: number | undefined): number {
  const least = Math.max(1, Math.ceil(image.status.virtualBytes / 1024 ** 2));
  if (wish === undefined) return least;
  checkWhole(`the disk in MiB (the image "${image.name}" has ${least})`, wish, least, limits.diskMiB);
  return wish;
}

export function checkGrace(seconds: number): number {
  checkWhole('the grace time in seconds', seconds, 0, limits.graceSeconds);
  return seconds;
}

function checkUserData(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  const bytes = utf8Bytes(text);
  if (bytes > limits.userDataBytes)
    throw new VirgaError('limit', {
      what: 'the user data, in bytes,',
      value: bytes,
      limit: limits.userDataBytes,
      how: 'Let it fetch the rest from a server of yours (#include).',
    });
  return text;
}

function checkKeys(keys: readonly string[]): readonly string[] {
  checkWhole('the number of SSH keys', keys.length, 0, limits.sshKeys);
  return keys.map((key) => {
    const line = key.trim();
    checkText('the SSH key', line, limits.sshKeyBytes);
    if (!sshKey.test(line)) throw invalid(`"${line.slice(0, 40)}" is not an OpenSSH public key`);
    return line;
  });
}

function machineFor(snapshot: Snapshot, host: Host | undefined, input: RunGuestInput): GuestSpec['machine'] {
  const hosts = host ? [host] : [...snapshot.all('host')].filter((each) => each.spec.role !== 'witness');
  if (hosts.length === 0) throw new VirgaError('no_hosts');
  const { machineType: type, firmware, cpuModel } = input;
  for (const [what, value] of Object.entries({ 'the machine type': type, 'the CPU model': cpuModel }))
    if (value !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(value)) throw invalid(`${what} is not valid`);
  const machine = chooseMachine(hosts, { type, firmware, cpuModel });
  if (machine) return machine;
  throw new VirgaError('no_placement', {
    what: 'a guest',
    reasons: `${hosts.length} hosts: no host has said yet what its engine offers`,
  });
}
