/**
 * What each kind of object says of itself for those who wait: facts with a stable reason and a sentence. They follow from
 * the document (and, for a guest, from its host) alone, and are set whenever it is written for another cause, so that
 * they never cause a write themselves.
 */
import { eligibility } from '../ha/eligible.ts';
import type { Guest, GuestObservation } from './guest.ts';
import type { Host } from './host.ts';
import { engineSilent, isGone } from './host.ts';
import type { Image } from './image.ts';
import type { Network } from './network.ts';
import type { Condition, Instant } from './resource.ts';
import type { AnyResource } from './snapshot.ts';
import { guestState } from './states.ts';

type Fact = Omit<Condition, 'sinceAt'>;
type Status = Condition['status'];
type Said = Omit<Fact, 'type'>;

/** How the agent ends its words on a size that the running guest refused. */
export const atNextStart = 'it is applied at the next start';

/** Reasons and problems that one sentence names at most. */
const named = 3;
/** A balloon is never exactly where it was sent; relative. */
const memorySlack = 0.05;

const says = (status: Status, reason: string, message: string): Said => ({ status, reason, message });

/** The object with its conditions; the same object when they are so already. */
export function withConditions<T extends AnyResource>(resource: T, host: Host | undefined, now: Instant): T {
  const facts = factsOf(resource, host);
  const { conditions } = resource;
  const next = facts.map((fact) => merged(conditions, fact, now));
  const unchanged = next.length === conditions.length && next.every((each, index) => each === conditions[index]);
  return unchanged ? resource : { ...resource, conditions: next };
}

/** `sinceAt` is kept while the status stays. */
function merged(conditions: readonly Condition[], fact: Fact, now: Instant): Condition {
  const old = conditions.find((each) => each.type === fact.type);
  if (!old || old.status !== fact.status) return { ...fact, sinceAt: now };
  return old.reason === fact.reason && old.message === fact.message ? old : { ...fact, sinceAt: old.sinceAt };
}

function factsOf(resource: AnyResource, host: Host | undefined): readonly Fact[] {
  if (resource.kind === 'guest') return guestFacts(resource, host);
  if (resource.kind === 'host') return hostFacts(resource);
  if (resource.kind === 'image') return [{ type: 'Ready', ...imageReady(resource) }];
  if (resource.kind === 'network') return [{ type: 'Usable', ...networkUsable(resource) }];
  return [];
}

// ---------------------------------------------------------------- guests

function guestFacts(guest: Guest, host: Host | undefined): readonly Fact[] {
  const pending = resizePending(guest, host);
  return [
    { type: 'Placed', ...isPlaced(guest, host) },
    { type: 'Ready', ...guestReady(guest, host) },
    { type: 'HighlyAvailable', ...highlyAvailable(guest) },
    ...(pending ? [{ type: 'ResizePending', ...pending }] : []),
  ];
}

function isPlaced({ spec, status }: Guest, host: Host | undefined): Said {
  const { placement, lost, unplaced } = status;
  if (placement && host) return says('true', 'OnHost', `It is placed on ${host.name}.`);
  if (placement) return says('unknown', 'HostGone', 'Its host is not of this site any more.');
  if (lost) return says('false', 'DiskLost', `Its disk was lost with host ${lost.host}; a rebuild places it anew.`);
  if (spec.power === 'off') return says('false', 'PowerOff', 'It is to be off and has no host.');
  if (spec.held) return says('false', 'Held', `It is held as it is, on no host: ${spec.held.reason}`);
  if (!unplaced || unplaced.length === 0) return says('false', 'Waiting', 'It waits to be placed.');
  return says('false', 'NoRoom', `No host can take it: ${firstOf(unplaced)}`);
}

function highlyAvailable(guest: Guest): Said {
  const able = eligibility(guest);
  if (able.ha) return says('true', 'FreshDisk', 'It starts on another host when its host is lost.');
  return says('false', able.reason, `It starts on no other host when its host is lost: ${able.why}.`);
}

function guestReady(guest: Guest, host: Host | undefined): Said {
  const { state, reason } = guestState(guest, host);
  const { spec } = guest;
  switch (state) {
    case 'deleting':
      return says('false', 'Deleting', 'It is being deleted.');
    case 'unknown':
      return says(
        'unknown',
        host && isGone(host) ? 'HostLost' : 'HostSilent',
        `Nothing is heard from it: ${reason ?? 'its host is silent'}.`,
      );
    case 'failed':
      if (guest.status.exhausted) return says('false', 'GivenUp', `It failed: ${reason ?? 'too often'}.`);
      return says('false', guest.status.lost ? 'DiskLost' : 'Failed', `It failed: ${reason ?? 'nobody said why'}.`);
    case 'pending':
      return says(
        'false',
        'Pending',
        guest.status.recovery ? `It has no host: ${reason ?? ''}.` : 'It has no host yet.',
      );
    case 'starting':
      return says('false', 'Starting', `It is on its way${reason === undefined ? '' : `: ${reason}`}.`);
    case 'stopping':
      return says('false', 'Stopping', 'It was asked to stop and still runs.');
    case 'running':
      return spec.paused ? says('false', 'Pausing', 'It is to be paused and still runs.') : whenDone(guest, 'Running');
    case 'paused':
      if (guest.status.observed?.engine === 'io-error')
        return says('false', 'DiskError', 'It stands still at an error of its disk.');
      if (guest.status.observed?.frozen === true)
        return says('false', 'Frozen', 'It is frozen: its host hears no majority of the voters.');
      return whenDone(guest, 'Paused');
    case 'stopped':
      break;
  }
  if (spec.power === 'off') return whenDone(guest, 'Stopped');
  return says('false', 'PoweredOff', `It should be on and is off: ${reason ?? 'it ended'}.`);
}

/** It looks as it should; it is so once its host has carried out the present order. */
function whenDone(guest: Guest, reason: 'Running' | 'Paused' | 'Stopped'): Said {
  const { placement, observed } = guest.status;
  const seen = highestSeen(observed);
  if (placement && seen > placement.generation)
    return says(
      'unknown',
      'NewerOrder',
      `Its host has order ${seen}, this state knows ${placement.generation}; see the review.`,
    );
  if (placement && (observed?.generation ?? -1) < placement.generation)
    return says('false', 'Applying', 'Its host has not yet carried out its present order.');
  if (guest.spec.releasing === true) return says('false', 'Releasing', 'It is being given back.');
  return says('true', reason, `It is ${reason.toLowerCase()}, as asked.`);
}

/** The highest order that the host has seen of this guest; -1: none. */
export function highestSeen(observed: GuestObservation | undefined): number {
  return observed ? Math.max(observed.generation, observed.accepted ?? -1) : -1;
}

/** An adopted domain keeps the sizes of its own description. */
function resizePending({ spec, status }: Guest, host: Host | undefined): Said | undefined {
  const { observed, placement } = status;
  if (!observed || !placement || host?.status.state !== 'online' || spec.adopted) return undefined;
  if (observed.engine !== 'running' && observed.engine !== 'paused') return undefined;
  if (observed.generation < placement.generation) return undefined;
  const waits: string[] = [];
  const { cpus, memoryMiB, error } = observed;
  if (cpus !== undefined && cpus !== spec.cpus) waits.push(`CPUs ${cpus} → ${spec.cpus}`);
  if (memoryMiB !== undefined && Math.abs(memoryMiB - spec.memoryMiB) > memorySlack * spec.memoryMiB)
    waits.push(`memory ${memoryMiB} → ${spec.memoryMiB} MiB`);
  if (waits.length > 0) return says('true', 'NextStart', `Takes effect at its next start: ${waits.join(', ')}.`);
  return error?.message.endsWith(atNextStart) === true ? says('true', 'NextStart', error.message) : undefined;
}

// ---------------------------------------------------------------- the others

function hostFacts(host: Host): readonly Fact[] {
  return [
    { type: 'Reachable', ...reachable(host) },
    { type: 'EngineReady', ...engineReady(host) },
    { type: 'Schedulable', ...schedulable(host) },
  ];
}

function reachable({ status }: Host): Said {
  if (status.state === 'online') return says('true', 'Reporting', 'It reports.');
  if (status.state === 'silent') return says('false', 'HostSilent', 'It is not heard from any more.');
  if (status.state === 'lost') return says('false', 'HostLost', 'Its session is over: nothing runs there any more.');
  if (status.state === 'fenced')
    return says('false', 'HostFenced', 'It is off for certain, by a fence device or a word.');
  return says('unknown', 'NeverHeard', 'It has joined and was not heard from yet.');
}

function engineReady({ spec, status }: Host): Said {
  if (spec.role === 'witness') return says('false', 'Witness', 'A witness runs no guests.');
  if (isGone({ status })) return says('unknown', 'HostLost', 'The host is lost.');
  if (status.state === 'silent') return says('unknown', 'HostSilent', 'The host is silent.');
  if (status.state === 'invited') return says('unknown', 'NeverHeard', 'The host was not heard from yet.');
  const silent = status.problems.find((each) => each.startsWith(engineSilent));
  if (silent !== undefined) return says('false', 'EngineSilent', silent);
  const { engine, problems } = status;
  if (!engine) return says('false', 'FactsUnknown', 'It has not said yet what its engine offers.');
  if (problems.length > 0) return says('true', 'AnswersWithProblems', firstOf(problems));
  const how = engine.kvm ? 'with KVM' : 'without KVM';
  return says('true', 'Answers', `libvirt ${engine.libvirtVersion} answers, ${how}.`);
}

function schedulable({ spec, status }: Host): Said {
  const { cordonReason } = spec;
  if (spec.role === 'witness') return says('false', 'Witness', 'A witness takes no guests.');
  if (isGone({ status })) return says('false', 'HostLost', 'Its session is over: nothing runs there any more.');
  if (spec.cordoned)
    return says('false', 'Cordoned', `It takes no new guests${cordonReason === undefined ? '' : `: ${cordonReason}`}.`);
  if (status.state === 'silent') return says('false', 'HostSilent', 'It is not heard from any more.');
  if (status.state === 'invited') return says('false', 'NeverHeard', 'It was not heard from yet.');
  if (!status.engine) return says('false', 'FactsUnknown', 'It has not said yet what its engine offers.');
  return says('true', 'TakesGuests', 'It takes new guests while it has room.');
}

function imageReady({ status }: Image): Said {
  switch (status.state) {
    case 'ready':
      return says('true', 'Checked', 'It is checked and stored.');
    case 'uploading':
      return says('false', 'Uploading', 'Its bytes are still arriving.');
    case 'checking':
      return says('false', 'Checking', 'It is being checked.');
    case 'failed':
      break;
  }
  return says('false', 'Refused', `It is refused: ${status.error?.message ?? 'nobody said why'}`);
}

function networkUsable({ status }: Network): Said {
  const { problems } = status;
  if (problems.length === 0) return says('true', 'NoProblems', 'No host reports a problem with it.');
  return says('false', 'HostProblems', firstOf(problems.map((each) => `${each.host}: ${each.message}`)));
}

function firstOf(sentences: readonly string[]): string {
  const more = sentences.length - named;
  return `${sentences.slice(0, named).join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
