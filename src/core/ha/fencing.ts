/**
 * When a host is powered off, and when its being off counts (host-lease, rule 15): pure. Fencing only shortens the wait
 * that the lease needs anyway, so every doubt is decided against it.
 */
import type { FenceDevice, HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { margin } from './margin.ts';
import type { LeaseProfile } from './types.ts';

/** What the leader sees of a host's lease. */
export interface FenceSight {
  readonly state: 'held' | 'lapsed' | 'sealing' | 'lost' | 'none' | 'unknown';
  readonly session?: HostSession;
  /** Milliseconds since some voter heard it last; 0 while nobody says that it is silent. */
  readonly silentMs: number;
}

export interface FenceHost extends FenceSight {
  readonly hostId: Uuid;
  readonly name: string;
  readonly devices: number;
  /** Hosts that may be struck together (a rack); one for all where the site names none. */
  readonly domain: string;
  /** Its session is over already (lost, fenced, left in order), or it was never there. */
  readonly over: boolean;
  /** An attempt is under way. */
  readonly running: boolean;
  /** Rounds through all its devices that failed in this silence. */
  readonly failed: number;
  /** Milliseconds since the last of them ended. */
  readonly failedAgoMs?: number;
}

export interface FenceSite {
  /** A majority of the voters answers this controller under its epoch. */
  readonly leading: boolean;
  /** Why nothing is recovered now; absent: it may be. */
  readonly hold?: string;
  readonly profile: LeaseProfile;
  readonly hosts: readonly FenceHost[];
}

export interface FencePlan {
  readonly begin: readonly { readonly hostId: Uuid; readonly session: HostSession; readonly why: string }[];
  /** Silent hosts that are not fenced now, each with the reason. */
  readonly waits: readonly { readonly hostId: Uuid; readonly why: string }[];
}

/** Rounds through all devices of one silence; then a person is wanted. */
export const maxRounds = 5;
const firstBackOffMs = 10_000;
const longestBackOffMs = 120_000;

/** Milliseconds from the end of the failed round number `failed` (1, 2 …) to the next. */
export function backOffMs(failed: number): number {
  return Math.min(firstBackOffMs * 2 ** (failed - 1), longestBackOffMs);
}

/** Whom to fence now. Of hosts that may be struck together only one at a time: the whole rack may only be cut off. */
export function decideFencing(site: FenceSite): FencePlan {
  const begin: { hostId: Uuid; session: HostSession; why: string }[] = [];
  const waits: { hostId: Uuid; why: string }[] = [];
  const taken = new Map<string, string>();
  for (const host of site.hosts) if (host.running) taken.set(host.domain, host.name);
  const silent = site.hosts.filter(
    (host) => !host.over && voiceless(host, site.profile) && host.devices > 0 && !host.running,
  );
  for (const host of silent.sort((a, b) => b.silentMs - a.silentMs || (a.name < b.name ? -1 : 1))) {
    const { hostId, session } = host;
    const why = against(site, host, taken.get(host.domain));
    if (why !== undefined || !session) waits.push({ hostId, why: why ?? 'its session is not known' });
    else {
      taken.set(host.domain, host.name);
      begin.push({ hostId, session, why: `silent for ${Math.round(host.silentMs)} ms` });
    }
  }
  return { begin, waits };
}

/**
 * Voters say so, and a majority of their grants ran out. That the controller itself hears nothing (`unknown`) proves
 * nothing: the voters may hear the host well.
 */
export function voiceless({ state, silentMs }: FenceSight, { lengthMs }: LeaseProfile): boolean {
  return state === 'sealing' && silentMs >= lengthMs;
}

function against(site: FenceSite, host: FenceHost, other: string | undefined): string | undefined {
  if (!site.leading) return 'this controller has no majority of the voters: it may itself be the one that is cut off';
  if (site.hold !== undefined) return `the site is held: ${site.hold}`;
  if (host.failed >= maxRounds) return `its devices failed ${host.failed} times in a row; see its history`;
  if (host.failed > 0 && (host.failedAgoMs ?? 0) < backOffMs(host.failed))
    return 'its devices failed; tried again soon';
  if (other !== undefined) return `${other} of the same failure domain is being fenced`;
  return undefined;
}

/** Milliseconds after which no grant of before a power cut can make a host look alive: ℓ, m, and a second for polls. */
export function patienceMs({ lengthMs, boundMs, drift }: LeaseProfile): number {
  return lengthMs + margin(lengthMs, boundMs, drift) + 1000;
}

/** An attempt whose device says that the power is off. */
export interface PowerOff {
  readonly session: HostSession;
  /** Milliseconds since the device said so. */
  readonly agoMs: number;
}

export type OffVerdict =
  | { readonly verdict: 'counts' }
  /** Grants of before still run. */
  | { readonly verdict: 'wait' }
  | { readonly verdict: 'refused'; readonly why: string };

/**
 * Whether the device's word is believed: never against a majority of voters that hears the host. Grants that were given
 * right before the power went run for ℓ, so it is waited for as long as an honest device needs.
 */
export function judgeOff(
  off: PowerOff,
  sight: FenceSight | undefined,
  leading: boolean,
  profile: LeaseProfile,
): OffVerdict {
  const late = off.agoMs > patienceMs(profile);
  if (!leading || !sight)
    return late
      ? refused('no majority of the voters answered, so nobody could contradict the device')
      : { verdict: 'wait' };
  if (!sight.session || sight.session.number !== off.session.number || sight.session.id !== off.session.id)
    return refused(`it came back under session ${sight.session?.number ?? '?'}`);
  if (sight.state === 'lost' || voiceless(sight, profile)) return { verdict: 'counts' };
  if (!late) return { verdict: 'wait' };
  return refused(
    'the device says that the power is off, but no majority of voters says that the host is silent: the device lies, or is wired to another machine',
  );
}

function refused(why: string): OffVerdict {
  return { verdict: 'refused', why };
}

// ---------------------------------------------------------------- devices

/** They cut a network or a storage path, ask the victim itself, or only pretend: their "off" proves no power off. */
const notPower: ReadonlySet<string> = new Set(
  'ack_manual brocade cisco_mds compute evacuate heuristics_ping ifmib kdump legacy mpath sanbox2 sbd scsi watchdog'
    .split(' ')
    .map((name) => `fence_${name}`),
);
/** Ours to give: what is done, and when. */
const reserved = /^(action|option|delay|nodename|help|version|quiet)$/;
/** They start programs, write what was typed into files, or turn "not found" into "off". */
const refusedKeys = /(_script|_path)$|^(debug|debug_file|verbose|verbose_level|missing_as_off|sudo|use_sudo)$/;
const secretKeys = /pass|secret|token|community|credential|kg$|(^|_)(api_?key|access_key|key)$/;
/** Options of ssh that start programs. */
const startsPrograms = /command/i;

/** Why a device cannot be used, in a sentence; nothing when it can. Looks at its words only, not at the machine. */
export function deviceProblem({ agent, parameters, delayMs = 0 }: FenceDevice): string | undefined {
  if (!/^fence_[a-z0-9_]{1,60}$/.test(agent)) return `"${agent}" is not the name of a fence agent`;
  if (notPower.has(agent)) return `${agent} does not cut the power, so its word proves nothing`;
  if (!(delayMs >= 0 && delayMs <= 600_000)) return 'the delay must be 0 to 600,000 ms';
  for (const [key, value] of Object.entries(parameters)) {
    const problem = parameterProblem(key, value);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function parameterProblem(key: string, value: string): string | undefined {
  if (!/^[a-zA-Z0-9_-]{1,64}$/.test(key)) return `"${key}" is not a parameter name`;
  // A line break would smuggle in another parameter.
  if (value.length > 1024 || /\p{Cc}/u.test(value))
    return `the value of "${key}" is too long or has control characters`;
  const name = key.toLowerCase().replaceAll('-', '_');
  if (reserved.test(name)) return `"${key}" is given by Virga itself`;
  if (refusedKeys.test(name)) return `"${key}" is not taken: it starts programs, writes files or hides failures`;
  if (name === 'ssh_options' && startsPrograms.test(value)) return `"${key}" starts a program`;
  if (!name.endsWith('_file') && secretKeys.test(name))
    return `"${key}" is a secret: put it into a file and name that by "${key}_file"`;
  return undefined;
}

/** Identifies a device with its settings; equal for equal ones. */
export function deviceKey({ agent, parameters }: FenceDevice): string {
  const sorted = Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([agent, sorted]);
}
