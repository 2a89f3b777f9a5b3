/** Lists as JSON in pieces: the text of each object was made once, so 20,000 of them go out in one breath. */
import { etag, presentText } from '../../api/present.ts';
import { VirgaError } from '../../core/errors.ts';
import { list } from '../../core/list.ts';
import type { Kind } from '../../core/model/resource.ts';
import type { AnyResource, Snapshot } from '../../core/model/snapshot.ts';
import type { ListQuery } from '../../core/requests/inputs.ts';
import { resolve } from '../../core/requests/resolve.ts';

/** Characters of one piece; large enough that the work per piece does not count, small enough to yield in between. */
const pieceLength = 256 * 1024;

/** `{items, next?, revision}` of one page. */
export function* page(snapshot: Snapshot, kind: Kind, query: ListQuery): Generator<string> {
  const { items, next } = list(snapshot, kind, query);
  const { revision } = snapshot;
  let piece = '{"items":[';
  let first = true;
  for (const item of items as readonly AnyResource[]) {
    piece += first ? presentText(item) : `,${presentText(item)}`;
    first = false;
    if (piece.length < pieceLength) continue;
    yield piece;
    piece = '';
  }
  yield `${piece}]${next === undefined ? '' : `,"next":${JSON.stringify(next)}`},"revision":${revision}}`;
}

/** The pieces with the first one already made: what the query gets wrong is known before the answer begins. */
export function pageOf(snapshot: Snapshot, kind: Kind, query: ListQuery): Iterable<string> {
  const pieces = page(snapshot, kind, query);
  const first = pieces.next();
  return (function* () {
    if (first.done !== true) yield first.value;
    yield* pieces;
  })();
}

/** Refuses a change of something that has moved on since it was read (RFC 9110, If-Match). */
export function demandMatch(snapshot: Snapshot, kind: Kind, ref: string, ifMatch: number | undefined): void {
  if (ifMatch === undefined) return;
  const resource = resolve(snapshot, kind, ref);
  if (resource.revision !== ifMatch)
    throw new VirgaError('stale', {
      kind,
      name: resource.name,
      given: Number.isNaN(ifMatch) ? 'not an ETag of ours' : `"${ifMatch}"`,
      actual: etag(resource),
    });
}
