/**
 * What every store agrees on about a commit, whatever keeps it: which commits make no sense, which addresses a guest
 * holds, what text an event may carry.
 */
import { formatAddress, parseAddress } from '../../core/net/address.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { AnyResource, NewEvent } from '../../core/model/snapshot.ts';
import type { Commit, CommitResult } from '../../ports.ts';

/** Milliseconds for which an idempotency key is remembered. */
export const idempotencyLifeMs = 24 * 3600 * 1000;

/** The most events one query returns. */
export const maxEvents = 1000;

/** What is kept, and for how long. Pruned in small steps, see `PgStore.prune`. */
export interface Retention {
  /** Events kept at most. */
  readonly maxEvents: number;
  /** Milliseconds for which events are kept. */
  readonly eventLifeMs: number;
  /** Milliseconds for which tombstones are kept, so that watches can resume. */
  readonly tombstoneLifeMs: number;
  /** Tombstones kept at most. */
  readonly maxTombstones: number;
}

const dayMs = 24 * 3600 * 1000;
export const defaultRetention: Retention = {
  maxEvents: 1_000_000,
  eventLifeMs: 400 * dayMs,
  tombstoneLifeMs: 3 * dayMs,
  maxTombstones: 100_000,
};

/** One address that a guest holds on a network. */
export interface HeldAddress {
  readonly networkId: Uuid;
  readonly guestId: Uuid;
  /** As the guest's document has it. */
  readonly given: string;
  /** One spelling per address. */
  readonly canonical: string;
}

/** Addresses of the guests among the objects, in their order. Throws a TypeError for one that is no address. */
export function heldAddresses(resources: readonly AnyResource[]): readonly HeldAddress[] {
  return resources.flatMap((resource) => {
    if (resource.kind !== 'guest') return [];
    return resource.spec.nics.flatMap((nic) =>
      [nic.ipv4, nic.ipv6]
        .filter((given) => given !== undefined)
        .map((given) => ({ networkId: nic.networkId, guestId: resource.id, given, canonical: canonical(given) })),
    );
  });
}

function canonical(text: string): string {
  const address = parseAddress(text);
  if (!address) throw new TypeError(`"${text}" is no IP address`);
  return formatAddress(address.family, address.value);
}

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Throws a TypeError for a commit that contradicts itself: a mistake of ours, not a race. */
export function checkShape(commit: Commit): void {
  const seen = new Set<string>();
  for (const { kind, id } of [...commit.put, ...commit.remove]) {
    if (!idPattern.test(id)) throw new TypeError(`"${id}" is not the UUID of a ${kind} (lower case, with hyphens)`);
    const key = `${kind}/${id}`;
    if (seen.has(key)) throw new TypeError(`the commit names ${key} twice`);
    seen.add(key);
  }
}

/** The first object of the commit whose name another one of the same commit has. */
export function nameTakenWithin(put: readonly AnyResource[]): CommitResult | undefined {
  const seen = new Set<string>();
  for (const { kind, name } of put) {
    const key = `${kind}/${name}`;
    if (seen.has(key)) return { ok: false, why: 'name-taken', kind, name };
    seen.add(key);
  }
  return undefined;
}

/** The first address of the commit that the commit itself gives twice. */
export function addressTakenWithin(held: readonly HeldAddress[]): CommitResult | undefined {
  const seen = new Set<string>();
  for (const { networkId, canonical, given } of held) {
    const key = `${networkId}/${canonical}`;
    if (seen.has(key)) return { ok: false, why: 'address-taken', networkId, address: given };
    seen.add(key);
  }
  return undefined;
}

/** The document as it is kept: the object under its new revision. */
export function documentOf(resource: AnyResource, revision: number): string {
  return JSON.stringify({ ...resource, revision });
}

/** Text that a database column can hold: PostgreSQL has no NUL, and UTF-8 no half of a surrogate pair. */
export function plainText(text: string): string {
  return text.replaceAll('\0', '\u{fffd}').toWellFormed();
}

/** The event as it is kept. Messages may quote what a guest or a tool said, so nothing is taken for granted. */
export function plainEvent(event: NewEvent): NewEvent {
  return {
    eventAt: event.eventAt,
    type: plainText(event.type),
    severity: event.severity,
    subject: { kind: event.subject.kind, id: plainText(event.subject.id), name: plainText(event.subject.name) },
    message: plainText(event.message),
    who: plainText(event.who),
    ...(event.reason === undefined ? {} : { reason: plainText(event.reason) }),
    ...(event.cause === undefined ? {} : { cause: plainText(event.cause) }),
    ...(event.evidence === undefined
      ? {}
      : { evidence: JSON.parse(JSON.stringify(event.evidence)) as NonNullable<NewEvent['evidence']> }),
  };
}

/** Wall clock, in milliseconds since 1970. */
export type Now = () => Instant;
