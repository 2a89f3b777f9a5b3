/**
 * Server-sent events: changes of objects, and the record as it grows. A watcher has no buffer of its own: it remembers
 * how far it is and is given what changed since, each object once and as it is now. So a slow one misses nothing but
 * what was overwritten meanwhile, and costs no memory; one that takes nothing for a minute is cut.
 */
import { present } from '../../api/present.ts';
import { VirgaError } from '../../core/errors.ts';
import { kinds, type Kind } from '../../core/model/resource.ts';
import type { SiteEvent } from '../../core/model/snapshot.ts';
import type { Log, Store } from '../../ports.ts';
import type { SiteState } from '../state.ts';
import type { MirrorChange } from '../store/mirror.ts';
import type { EventChannel } from './call.ts';
import { documentBytes } from './lists.ts';

/** Milliseconds between signs of life on a quiet stream; proxies cut at 30 to 60 s. */
const heartbeatMs = 15_000;
/** Characters per write. */
const pieceLength = 64 * 1024;
const eventsAtOnce = 1000;

/** `guest,host` as kinds; all when absent. */
export function parseKinds(text: string | undefined): ReadonlySet<Kind> {
  if (text === undefined || text === '') return new Set(kinds);
  const wanted = text.split(',').map((each) => each.trim());
  for (const each of wanted)
    if (!kinds.includes(each as Kind))
      throw new VirgaError('invalid_request', {
        detail: `query/kinds: "${each.slice(0, 40)}" is none of ${kinds.join(', ')}`,
      });
  return new Set(wanted as Kind[]);
}

/** Where a stream goes on: Last-Event-ID wins over the query, because that is what a resuming client sends. */
export function startOf(header: string | string[] | undefined, query: number | undefined): number | undefined {
  if (typeof header !== 'string' || header === '') return query;
  const value = Number(header);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new VirgaError('invalid_request', { detail: 'Last-Event-ID is not one of ours' });
  return value;
}

/** @throws VirgaError too_old: the changes since then are not known any more. */
export function demandSince(state: SiteState, revision: number): void {
  const { snapshot } = state;
  if (snapshot.since(revision) === undefined)
    throw new VirgaError('too_old', { given: revision, oldest: snapshot.oldestTombstone, newest: snapshot.revision });
}

/** Writes changes after `since` until the client is gone or must list again. */
export async function watch(
  state: SiteState,
  channel: EventChannel,
  since: number,
  wanted: ReadonlySet<Kind>,
): Promise<void> {
  const bell = new Bell(channel.signal);
  const stop = wakeOn(state, bell);
  try {
    let sent = since;
    await channel.write(`retry: 1000\nid: ${sent}\n\n`);
    while (!channel.signal.aborted && leads(state)) {
      const { snapshot } = state;
      const changes = snapshot.since(sent);
      // Too slow by days, or the state is another one after a restore: the client comes again and is told so.
      if (!changes) return;
      const { revision } = snapshot;
      const matching = changes.filter((each) =>
        wanted.has(each.type === 'put' ? each.resource.kind : each.tombstone.kind),
      );
      for (const piece of watchText(matching)) await channel.write(piece);
      // What changed was of other kinds: the place to resume moves on all the same.
      if (revision > sent && matching.at(-1)?.revision !== revision) await channel.write(`id: ${revision}\n\n`);
      sent = revision;
      if (!(await bell.wait(heartbeatMs))) await channel.write(':\n\n');
    }
  } finally {
    stop();
  }
}

/** The id stands on the last event of a revision only: who resumes from it has seen all of it. */
export function* watchText(changes: readonly MirrorChange[]): Generator<string> {
  let piece = '';
  for (const [index, change] of changes.entries()) {
    const last = changes[index + 1]?.revision !== change.revision;
    piece += `event: ${change.type === 'put' ? 'put' : 'delete'}\n${last ? `id: ${change.revision}\n` : ''}data: ${dataOf(change)}\n\n`;
    if (piece.length < pieceLength) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

function dataOf(change: MirrorChange): string {
  if (change.type === 'gone') {
    const { kind, id, name } = change.tombstone;
    return JSON.stringify({ kind, id, name });
  }
  const { kind, id } = change.resource;
  return `{"kind":"${kind}","id":"${id}","object":${documentBytes(change.resource).toString()}}`;
}

export interface EventFilter {
  readonly subjectId?: string | undefined;
  readonly type?: string | undefined;
}

/** Writes events after `after` until the client is gone. */
export async function follow(
  world: { readonly state: SiteState; readonly store: Pick<Store, 'events'>; readonly log: Log },
  channel: EventChannel,
  after: number,
  filter: EventFilter,
): Promise<void> {
  const bell = new Bell(channel.signal);
  const stop = wakeOn(world.state, bell);
  try {
    let last = after;
    await channel.write(`retry: 1000\nid: ${last}\n\n`);
    while (!channel.signal.aborted && leads(world.state)) {
      const events = world.state.recentEvents(last) ?? (await readEvents(world, last));
      last = events.at(-1)?.seq ?? last;
      const text = events.filter((each) => matches(each, filter)).map(eventText);
      if (text.length > 0) await channel.write(text.join(''));
      if (events.length >= eventsAtOnce) continue;
      if (!(await bell.wait(heartbeatMs))) await channel.write(`:\n\n`);
    }
  } finally {
    stop();
  }
}

/** Who stands by hears of nothing: its watchers come again, and find who leads. */
const leads = (state: SiteState): boolean => state.known;

function wakeOn(state: SiteState, bell: Bell): () => void {
  const stops = [state.listen(() => bell.ring()), state.onLeadership(() => bell.ring())];
  return () => {
    for (const stop of stops) stop();
  };
}

function matches(event: SiteEvent, filter: EventFilter): boolean {
  if (filter.subjectId !== undefined && event.subject.id !== filter.subjectId) return false;
  return filter.type === undefined || event.type === filter.type;
}

function eventText(event: SiteEvent): string {
  return `event: event\nid: ${event.seq}\ndata: ${JSON.stringify(present(event))}\n\n`;
}

/** While the database is away there is nothing new; the next bell or heartbeat asks again. */
async function readEvents(
  { store, log }: { readonly store: Pick<Store, 'events'>; readonly log: Log },
  after: number,
): Promise<readonly SiteEvent[]> {
  try {
    return await store.events({ afterSeq: after, limit: eventsAtOnce });
  } catch (error) {
    log.debug('events could not be read', { error: String(error) });
    return [];
  }
}

/** Rings when something happened; remembers one ring while nobody waits. */
export class Bell {
  #rung = false;
  #release: (() => void) | undefined;

  constructor(signal: AbortSignal) {
    signal.addEventListener('abort', () => this.ring(), { once: true });
  }

  ring(): void {
    this.#rung = true;
    this.#release?.();
  }

  /** True when it rang within `ms`. */
  async wait(ms: number): Promise<boolean> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#release = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#release = undefined;
    }
    const rung = this.#rung;
    this.#rung = false;
    return rung;
  }
}
