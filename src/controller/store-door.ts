/** Stands where the store will be, so that the controller answers from its first moment on. */
import { VirgaError } from '../core/errors.ts';
import type { Epoch } from '../core/ha/types.ts';
import type { SiteEvent, SiteFacts } from '../core/model/snapshot.ts';
import type { Commit, CommitResult, EventQuery, IdempotencyRecord, LeadResult, Store } from '../ports.ts';

export class StoreDoor implements Store {
  #store: Store | undefined;
  #why = 'it is starting';

  open(store: Store): void {
    this.#store = store;
  }

  /** Why it is not open yet; part of the answer that people get. */
  closed(why: string): void {
    this.#why = why;
  }

  async lead(claim: Epoch): Promise<LeadResult> {
    return this.#get().lead(claim);
  }

  async epoch(): Promise<Epoch> {
    return this.#get().epoch();
  }

  async voters(): Promise<SiteFacts['voters']> {
    return this.#get().voters();
  }

  async commit(commit: Commit): Promise<CommitResult> {
    return this.#get().commit(commit);
  }

  async idempotent(who: string, key: string): Promise<IdempotencyRecord | undefined> {
    return this.#get().idempotent(who, key);
  }

  async events(query: EventQuery): Promise<readonly SiteEvent[]> {
    return this.#get().events(query);
  }

  async ping(): Promise<void> {
    return this.#get().ping();
  }

  #get(): Store {
    if (!this.#store) throw new VirgaError('store_unavailable', { detail: this.#why });
    return this.#store;
  }
}
