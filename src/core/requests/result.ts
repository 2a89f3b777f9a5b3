import type { GuestAction } from '../model/states.ts';
import { can, forbiddenWhileHeld, guestCan, guestState } from '../model/states.ts';
import { VirgaError } from '../errors.ts';
import { withConditions } from '../model/conditions.ts';
import type { Guest } from '../model/guest.ts';
import type { Kind, Uuid } from '../model/resource.ts';
import type { AnyResource, Change, NewEvent, RequestContext, SiteFacts, Snapshot, Subject } from '../model/snapshot.ts';

export interface Created {
  readonly kind: Kind;
  readonly id: Uuid;
}

/** What must still be so when the change is written; fits `Expectation` of the store. */
export interface Expected {
  readonly kind: Kind;
  readonly id: Uuid;
  /** `undefined`: it must not exist. */
  readonly revision: number | undefined;
}

/** What a request becomes. An empty change means that all is so already: repeats do no harm. */
export interface RequestResult {
  readonly change: Change;
  readonly created: readonly Created[];
  /** Everything that is written, and what the decision stands on. */
  readonly expect: readonly Expected[];
}

export type EventDetails = Pick<NewEvent, 'type' | 'message'> &
  Partial<Pick<NewEvent, 'severity' | 'cause' | 'evidence'>>;

/** Collects what one request writes. */
export class Draft {
  readonly #context: RequestContext;
  readonly #put: AnyResource[] = [];
  readonly #remove: { kind: Kind; id: Uuid }[] = [];
  readonly #events: NewEvent[] = [];
  readonly #created: Created[] = [];
  readonly #expect = new Map<Uuid, Expected>();
  #site: SiteFacts | undefined;

  constructor(context: RequestContext) {
    this.#context = context;
  }

  create(resource: AnyResource): void {
    this.#put.push(this.#conditioned(resource));
    this.#created.push({ kind: resource.kind, id: resource.id });
    this.#expect.set(resource.id, { kind: resource.kind, id: resource.id, revision: undefined });
  }

  /** `next` is a changed copy of what the snapshot holds, with its revision. */
  put(next: AnyResource): void {
    this.#put.push({ ...this.#conditioned(next), updatedAt: this.#context.now });
    this.reads(next);
  }

  /** Guests come with their conditions (`described`), since those need the host. */
  #conditioned(resource: AnyResource): AnyResource {
    return resource.kind === 'guest' ? resource : withConditions(resource, undefined, this.#context.now);
  }

  remove(resource: AnyResource): void {
    this.#remove.push({ kind: resource.kind, id: resource.id });
    this.reads(resource);
  }

  /** The decision holds only while this object stays as it was. */
  reads(resource: AnyResource): void {
    this.#expect.set(resource.id, { kind: resource.kind, id: resource.id, revision: resource.revision });
  }

  site(facts: SiteFacts): void {
    this.#site = facts;
  }

  event(subject: Subject, details: EventDetails): void {
    const { now, actor } = this.#context;
    this.#events.push({
      eventAt: now,
      severity: 'info',
      subject: { kind: subject.kind, id: subject.id, name: subject.name },
      who: actor.who,
      ...(actor.reason === undefined ? {} : { reason: actor.reason }),
      ...details,
    });
  }

  finish(): RequestResult {
    return {
      change: {
        put: this.#put,
        remove: this.#remove,
        events: this.#events,
        ...(this.#site ? { site: this.#site } : {}),
      },
      created: this.#created,
      expect: [...this.#expect.values()],
    };
  }
}

/** Nothing to do: what was asked for is so already. */
export function nothing(): RequestResult {
  return { change: { put: [], remove: [], events: [] }, created: [], expect: [] };
}

/** Looking is free; a change needs the role, and on others' objects a reason (laws 6). */
export function mayChange(context: RequestContext, resource: AnyResource | undefined, action: string): void {
  const { actor } = context;
  if (actor.role !== 'admin') throw new VirgaError('forbidden', { who: actor.who, action });
  if (!resource || resource.owner === actor.who || actor.who === 'virga') return;
  if (actor.reason === undefined || actor.reason.trim() === '')
    throw new VirgaError('reason_required', { kind: resource.kind, name: resource.name, owner: resource.owner });
}

/** Nothing is destroyed while a restored state waits for a person's review. */
export function notUnderReview(snapshot: Snapshot): void {
  if (snapshot.site.review) throw new VirgaError('review_pending');
}

/** Holds the one table of legal actions, and the hold. */
export function legal(snapshot: Snapshot, guest: Guest, action: GuestAction): void {
  const { held } = guest.spec;
  const host = guest.status.placement && snapshot.get('host', guest.status.placement.hostId);
  const { state } = guestState(guest, host);
  const answer = can(action, state);
  if (answer !== true)
    throw new VirgaError('not_allowed', { name: guest.name, state, action: guestCan[action].past, why: answer });
  if (held && forbiddenWhileHeld.includes(action))
    throw new VirgaError('held', { name: guest.name, reason: held.reason });
}
