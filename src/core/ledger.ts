/** What one decision on observations writes: each object once, with what it must still be when it is written. */
import { withConditions } from './model/conditions.ts';
import type { Host } from './model/host.ts';
import type { Instant, Kind, Uuid } from './model/resource.ts';
import type { AnyResource, Change, NewEvent } from './model/snapshot.ts';
import type { Expected } from './requests/result.ts';

export type EventFacts = Pick<NewEvent, 'type' | 'severity' | 'message'> &
  Partial<Pick<NewEvent, 'cause' | 'evidence'>>;

export class Ledger {
  readonly #now: Instant;
  readonly #put: AnyResource[] = [];
  readonly #remove: { kind: Kind; id: Uuid }[] = [];
  readonly #events: NewEvent[] = [];
  readonly #expect: Expected[] = [];

  constructor(now: Instant) {
    this.#now = now;
  }

  /** `host`: the one that a guest is on. */
  put(resource: AnyResource, host?: Host): void {
    this.#put.push({ ...withConditions(resource, host, this.#now), updatedAt: this.#now });
    this.#expect.push({ kind: resource.kind, id: resource.id, revision: resource.revision });
  }

  remove(resource: AnyResource): void {
    this.#remove.push({ kind: resource.kind, id: resource.id });
    this.#expect.push({ kind: resource.kind, id: resource.id, revision: resource.revision });
  }

  /** The object is written already. */
  has(id: Uuid): boolean {
    return this.#expect.some((each) => each.id === id);
  }

  event(subject: AnyResource, facts: EventFacts, who = 'virga'): void {
    const { kind, id, name } = subject;
    this.#events.push({ eventAt: this.#now, subject: { kind, id, name }, who, ...facts });
  }

  events(...events: readonly NewEvent[]): void {
    this.#events.push(...events);
  }

  finish(): { readonly change: Change; readonly expect: readonly Expected[] } {
    return { change: { put: this.#put, remove: this.#remove, events: this.#events }, expect: this.#expect };
  }
}
