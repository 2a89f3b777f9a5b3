/** Lists as JSON in pieces: the bytes of each object were made once, so 20,000 of them go out in one breath. */
import { etag, present } from '../../api/present.ts';
import { VirgaError } from '../../core/errors.ts';
import { list } from '../../core/list.ts';
import type { Kind } from '../../core/model/resource.ts';
import type { AnyResource, Snapshot } from '../../core/model/snapshot.ts';
import type { ListQuery } from '../../core/requests/inputs.ts';
import { resolve } from '../../core/requests/resolve.ts';

/** Bytes of one piece; large enough that the work per piece does not count, small enough to yield in between. */
const pieceBytes = 256 * 1024;
/** Documents whose bytes are made at once while warming up. */
const warmStep = 200;

/** Documents are never changed in place, so their bytes are made once. They begin with a comma, for lists. */
const known = new WeakMap<object, Buffer>();

function withComma(resource: AnyResource): Buffer {
  let bytes = known.get(resource);
  if (!bytes) {
    bytes = Buffer.from(`,${JSON.stringify(present(resource))}`);
    known.set(resource, bytes);
  }
  return bytes;
}

/** A document as the API sends it. */
export function documentBytes(resource: AnyResource): Buffer {
  return withComma(resource).subarray(1);
}

/** `{items, next?, revision}` of one page. */
function* page(snapshot: Snapshot, kind: Kind, query: ListQuery): Generator<Buffer> {
  const { items, next } = list(snapshot, kind, query);
  const { revision } = snapshot;
  let parts: Buffer[] = [Buffer.from('{"items":[')];
  let size = 0;
  let first = true;
  for (const item of items as readonly AnyResource[]) {
    const bytes = first ? documentBytes(item) : withComma(item);
    first = false;
    parts.push(bytes);
    size += bytes.length;
    if (size < pieceBytes) continue;
    yield Buffer.concat(parts);
    parts = [];
    size = 0;
  }
  const end = `]${next === undefined ? '' : `,"next":${JSON.stringify(next)}`},"revision":${revision}}`;
  yield Buffer.concat([...parts, Buffer.from(end)]);
}

interface KeptPage {
  readonly revision: number;
  readonly what: string;
  readonly pieces: readonly Buffer[];
}
/** The last page that went out whole. Who looks again and again at a quiet site gets the same bytes. */
const kept = new WeakMap<Snapshot, KeptPage>();
/** Above this a page is made anew each time. */
const keptBytes = 64 * 1024 * 1024;

/** The page's pieces, the first one already made: what the query gets wrong is known before the answer begins. */
export function pageOf(snapshot: Snapshot, kind: Kind, query: ListQuery): Iterable<Buffer> {
  const { revision } = snapshot;
  const what = `${kind} ${JSON.stringify(query)}`;
  const last = kept.get(snapshot);
  if (last?.revision === revision && last.what === what) return last.pieces;
  const pieces = page(snapshot, kind, query);
  const first = pieces.next();
  return (function* () {
    const made: Buffer[] = [];
    let size = 0;
    for (let next = first; next.done !== true; next = pieces.next()) {
      size += next.value.length;
      if (size <= keptBytes) made.push(next.value);
      yield next.value;
    }
    if (size <= keptBytes) kept.set(snapshot, { revision, what, pieces: made });
  })();
}

/** Makes the bytes of all guests ahead of the first who asks, a few at a time. */
export async function warm(snapshot: Snapshot, signal: AbortSignal): Promise<void> {
  let count = 0;
  for (const guest of snapshot.all('guest')) {
    withComma(guest);
    count += 1;
    if (count % warmStep !== 0) continue;
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    if (signal.aborted) return;
  }
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
