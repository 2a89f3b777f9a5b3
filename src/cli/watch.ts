/** Following changes of objects: a watch that resumes after a break, and says when the list must be read again. */
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { GuestView, HostView, ImageView, NetworkView } from '../api/schemas.ts';
import { isAway } from './failure.ts';
import { pause } from './io.ts';

export type AnyView = GuestView | HostView | ImageView | NetworkView;
export type Sight =
  | { readonly what: 'is'; readonly document: AnyView }
  | { readonly what: 'gone'; readonly kind: string; readonly id: string }
  /** The site cannot say what happened since: read the list again and watch from there. */
  | { readonly what: 'again' };

interface WatchData {
  readonly kind: string;
  readonly id: string;
  /** The object as it is now; absent when it is gone. */
  readonly object?: AnyView;
}

/** One event of `site.watch`: `put` with the object as it is now, or `delete` with its kind, id and name. */
function sightOf(event: string, data: string): Sight | undefined {
  if (event !== 'put' && event !== 'delete') return undefined;
  const { kind, id, object } = JSON.parse(data) as WatchData;
  return event === 'put' && object ? { what: 'is', document: object } : { what: 'gone', kind, id };
}

export interface WatchOptions {
  readonly kinds: string;
  /** Revision of the list that was read. */
  readonly since: number;
  readonly signal: AbortSignal;
  /** Milliseconds without any connection after which it gives up; default 60,000. */
  readonly patienceMs?: number;
}

/** Gives changes until the caller stops; reconnects with back-off from 0.2 to 5 s. */
export async function* watch(client: Client, options: WatchOptions): AsyncGenerator<Sight> {
  const { kinds, since, signal } = options;
  const patience = options.patienceMs ?? 60_000;
  let lastEventId: string | undefined;
  let brokenSince: number | undefined;
  let delay = 200;
  for (;;) {
    try {
      const resume = lastEventId === undefined ? {} : { lastEventId };
      for await (const event of client.follow('site.watch', { query: { kinds, since }, signal, ...resume })) {
        brokenSince = undefined;
        delay = 200;
        if (event.id !== '') lastEventId = event.id;
        const sight = sightOf(event.event, event.data);
        if (sight) yield sight;
        if (sight?.what === 'again') return;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof VirgaError && error.code === 'too_old') {
        yield { what: 'again' };
        return;
      }
      if (error instanceof VirgaError && !isAway(error) && !passing.has(error.code)) throw error;
      brokenSince ??= Date.now();
      if (Date.now() - brokenSince > patience) throw error;
    }
    brokenSince ??= Date.now();
    await pause(delay, signal);
    delay = Math.min(delay * 2, 5000);
  }
}

const passing = new Set(['overloaded', 'timeout']);

/**
 * Watches until `done` says so of what it has seen. `read` gives the objects as they are now and the revision to watch
 * from; it is asked again whenever the watch cannot go on.
 */
export async function until<T>(
  client: Client,
  kinds: string,
  read: () => Promise<{ readonly seen: readonly AnyView[]; readonly revision: number }>,
  judge: (sight: Sight) => T | undefined,
  signal: AbortSignal,
  /** Asked after each reading, for the case that there was nothing to judge. */
  settled: () => T | undefined = () => undefined,
): Promise<T> {
  for (let round = 0; ; round += 1) {
    const { seen, revision } = await read();
    for (const document of seen) {
      const verdict = judge({ what: 'is', document });
      if (verdict !== undefined) return verdict;
    }
    const enough = settled();
    if (enough !== undefined) return enough;
    for await (const sight of watch(client, { kinds, since: revision, signal })) {
      if (sight.what === 'again') break;
      const verdict = judge(sight);
      if (verdict !== undefined) return verdict;
    }
    // A site that answers every watch with "again" is asked at a bounded rate.
    await pause(Math.min(200 * (round + 1), 2000), signal);
  }
}
