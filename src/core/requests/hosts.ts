import { VirgaError } from '../errors.ts';
import type { Invite } from '../model/access.ts';
import type { Host, HostSpec, HostStatus, KeeperFacts } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { same } from '../util.ts';
import { checkFreeName, checkReason, checkText, checkWhole, invalid, limits, mergeLabels, newMeta } from './check.ts';
import { fenceDevices } from './fence-input.ts';
import type { HostChange } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

/** CPU time is shared well, memory is not; half a GiB keeps a small host itself alive. */
export const hostDefaults: HostSpec = {
  cordoned: false,
  reserved: { cpus: 0, memoryMiB: 512, diskMiB: 1024 },
  overcommit: { cpu: 4, memory: 1 },
};

export interface JoinFacts {
  /** Made by the caller; the CN of the certificate. */
  readonly id: Uuid;
  /** SHA-256 (hex) of the invitation's secret. */
  readonly secretHash: string;
  /** What the host calls itself; an invitation may name it otherwise. */
  readonly hostName: string;
  readonly address?: string | undefined;
  readonly agentVersion: string;
  readonly protocol: number;
  readonly certificate: NonNullable<HostStatus['certificate']>;
  /** A witness says itself what a host's agent reports later. */
  readonly keeper?: KeeperFacts | undefined;
}

/** The invitation that this secret belongs to, and the name the host will have. Before a certificate is made. */
export function checkInvite(
  snapshot: Snapshot,
  facts: Pick<JoinFacts, 'secretHash' | 'hostName'>,
  now: Instant,
): { readonly invite: Invite; readonly hostName: string } {
  const refused = (detail: string): VirgaError => new VirgaError('invite_invalid', { detail });
  const invite = [...snapshot.all('invite')].find((each) => each.spec.secretHash === facts.secretHash);
  if (!invite) throw refused('it is unknown here, or was taken back');
  if (invite.status.usedAt !== undefined) throw refused('it was used already');
  if (invite.spec.expiresAt <= now) throw refused('it has expired');
  const hostName = invite.spec.hostName ?? ownName(facts.hostName);
  checkFreeName(snapshot, 'host', hostName);
  return { invite, hostName };
}

/** The first label of what the machine calls itself. */
function ownName(name: string): string {
  return (name.split('.')[0] ?? '').toLowerCase();
}

/** A host joins by its invitation, which is used up. It belongs to whoever invited it. */
export function joinHost(snapshot: Snapshot, facts: JoinFacts, context: RequestContext): RequestResult {
  const { invite, hostName } = checkInvite(snapshot, facts, context.now);
  const { agentVersion, protocol, address, certificate } = facts;
  const host: Host = {
    ...newMeta(context, facts.id, hostName),
    owner: invite.owner,
    community: invite.community,
    kind: 'host',
    spec: invite.spec.role === 'witness' ? { ...hostDefaults, role: 'witness' } : hostDefaults,
    status: {
      state: 'invited',
      stateAt: context.now,
      agentVersion,
      protocol,
      ...(address === undefined ? {} : { address }),
      foreign: [],
      strays: [],
      images: [],
      certificate,
      ...(facts.keeper ? { keeper: facts.keeper } : {}),
      problems: [],
    },
  };
  const draft = new Draft(context);
  draft.create(host);
  draft.put({ ...invite, status: { usedAt: context.now, hostId: host.id } });
  draft.event(host, {
    type: 'host.joined',
    message: `${hostName} joined by the invitation ${invite.name}`,
    evidence: { agentVersion, protocol, ...(address === undefined ? {} : { address }) },
  });
  return draft.finish();
}

/** A new certificate was made for the host. */
export function renewHost(
  snapshot: Snapshot,
  hostId: Uuid,
  certificate: NonNullable<HostStatus['certificate']>,
  context: RequestContext,
): RequestResult {
  const host = snapshot.get('host', hostId);
  if (!host) throw new VirgaError('certificate_refused', { detail: 'the host is not, or no longer, of this site' });
  const draft = new Draft(context);
  draft.put({ ...host, status: { ...host.status, certificate } });
  draft.event(host, { type: 'host.renewed', message: `${host.name} got a new certificate` });
  return draft.finish();
}

/** Where a witness hears beats now, or its new disk; a host's agent reports these. Nothing when that is known. */
export function noteKeeper(
  snapshot: Snapshot,
  hostId: Uuid,
  keeper: KeeperFacts,
  context: RequestContext,
): RequestResult {
  const host = snapshot.get('host', hostId);
  if (!host) throw new VirgaError('certificate_refused', { detail: 'the host is not, or no longer, of this site' });
  if (same(host.status.keeper, keeper)) return nothing();
  const draft = new Draft(context);
  draft.put({ ...host, status: { ...host.status, keeper } });
  draft.event(host, {
    type: 'host.keeper',
    message: `the keeper of ${host.name} hears beats at ${keeper.addresses.join(' and ')}`,
    evidence: { diskId: keeper.diskId },
  });
  return draft.finish();
}

export function changeHost(snapshot: Snapshot, ref: string, input: HostChange, context: RequestContext): RequestResult {
  const host = resolve(snapshot, 'host', ref);
  mayChange(context, host, `change the host "${host.name}"`);
  checkReason(context);
  const spec = changedSpec(host.spec, input);
  const labels = mergeLabels(host.labels, input.labels);
  const specChanged = !same(spec, host.spec);
  if (!specChanged && same(labels, host.labels)) return nothing();
  const draft = new Draft(context);
  draft.put({ ...host, labels, spec, generation: specChanged ? host.generation + 1 : host.generation });
  const cordon = spec.cordoned === host.spec.cordoned ? undefined : spec.cordoned;
  if (cordon === undefined) draft.event(host, { type: 'host.changed', message: `${host.name} was changed` });
  else if (cordon) draft.event(host, { type: 'host.cordoned', message: `${host.name} takes no new guests` });
  else draft.event(host, { type: 'host.uncordoned', message: `${host.name} takes new guests again` });
  return draft.finish();
}

/** The reason of the request is what `list` shows. */
export function cordonHost(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  return changeHost(snapshot, ref, { cordoned: true, cordonReason: context.actor.reason }, context);
}

export function uncordonHost(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  return changeHost(snapshot, ref, { cordoned: false }, context);
}

function changedSpec(old: HostSpec, input: HostChange): HostSpec {
  const cordoned = input.cordoned ?? old.cordoned;
  if (input.cordonReason !== undefined) checkText('the reason', input.cordonReason, limits.reason);
  const cordonReason = cordoned ? (input.cordonReason ?? old.cordonReason) : undefined;
  const reserved = {
    cpus: input.reserved?.cpus ?? old.reserved.cpus,
    memoryMiB: input.reserved?.memoryMiB ?? old.reserved.memoryMiB,
    diskMiB: input.reserved?.diskMiB ?? old.reserved.diskMiB,
  };
  for (const [name, value] of Object.entries(reserved)) checkWhole(`reserved ${name}`, value, 0, limits.diskMiB);
  const overcommit = {
    cpu: input.overcommit?.cpu ?? old.overcommit.cpu,
    memory: input.overcommit?.memory ?? old.overcommit.memory,
  };
  const [least, most] = limits.overcommit;
  for (const [name, value] of Object.entries(overcommit))
    if (!(value >= least && value <= most))
      throw invalid(`the overcommit of ${name} must be from ${least} to ${most}, not ${value}`);
  const capacity = changedCapacity(old.capacity, input.capacity);
  const fence = input.fence === undefined ? old.fence : fenceDevices(input.fence);
  return {
    ...(old.role === undefined ? {} : { role: old.role }),
    ...(fence && fence.length > 0 ? { fence } : {}),
    cordoned,
    ...(cordonReason === undefined ? {} : { cordonReason }),
    reserved,
    overcommit,
    ...(capacity ? { capacity } : {}),
  };
}

function changedCapacity(old: HostSpec['capacity'], input: HostChange['capacity']): HostSpec['capacity'] {
  if (!input) return old;
  const next: { cpus?: number; memoryMiB?: number; diskMiB?: number } = { ...old };
  for (const name of ['cpus', 'memoryMiB', 'diskMiB'] as const) {
    const value = input[name];
    if (value === undefined) continue;
    if (value === null) {
      delete next[name];
      continue;
    }
    checkWhole(`the capacity of ${name}`, value, 0, limits.diskMiB);
    next[name] = value;
  }
  return Object.keys(next).length === 0 ? undefined : next;
}

/** A host's problems leave the networks with it. */
export function forgetHostInNetworks(snapshot: Snapshot, host: Host, draft: Draft): void {
  for (const network of snapshot.all('network')) {
    if (!network.status.problems.some((each) => each.host === host.name)) continue;
    const problems = network.status.problems.filter((each) => each.host !== host.name);
    draft.put({ ...network, status: { ...network.status, problems } });
  }
}
