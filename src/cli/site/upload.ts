/** Sending an image in parts, going on after a break, and waiting until the site has checked it. */
import { randomUUID } from 'node:crypto';
import { VirgaError } from '../../api/errors.ts';
import type { Body } from '../../api/routes.ts';
import type { ImageView } from '../../api/schemas.ts';
import type { Call } from '../call.ts';
import { timedOut } from '../failure.ts';
import { Interrupted, pause } from '../io.ts';
import { repeating } from '../lists.ts';
import { ByteProgress, StatusLine } from '../ui/progress.ts';
import { deadline } from '../commands/guest-wait.ts';
import { until } from '../watch.ts';
import { Digest, type Source } from './source.ts';

/** One request; small enough to be sent again without much loss, large enough for a fast line. */
const partBytes = 16 * 1024 * 1024;
const tries = 8;

type Announced = Omit<Body<'image.add'>, 'sizeBytes'>;

/** Announces the image; or finds the unfinished one that an earlier `image add` of the same name and size left. */
async function announce(call: Call, source: Source, image: Announced): Promise<{ image: ImageView; resumed: boolean }> {
  const body = { ...image, sizeBytes: source.size };
  const idempotencyKey = randomUUID();
  try {
    const made = await repeating(call.io.interrupted, () =>
      call.client.call('image.add', { body, idempotencyKey, ...call.change }),
    );
    return { image: made, resumed: false };
  } catch (error) {
    if (!(error instanceof VirgaError) || error.code !== 'name_taken') throw error;
    const found = await call.client.call('image.show', { params: { image: image.name }, ...call.look });
    const same =
      ['uploading', 'checking'].includes(found.status.state) &&
      found.status.sizeBytes === source.size &&
      found.spec.format === image.format &&
      (image.sha512 === undefined || found.spec.expectedSha512 === image.sha512);
    if (!same) throw error;
    return { image: found, resumed: true };
  }
}

/** Bytes that have arrived. */
async function offsetOf(call: Call, image: string): Promise<number> {
  const answer = await call.client.raw('image.offset', { params: { image }, signal: call.io.interrupted });
  await answer.body.dump();
  const offset = Number(answer.headers['upload-offset']);
  if (!Number.isSafeInteger(offset) || offset < 0)
    throw new VirgaError('invalid_request', { detail: 'the site did not say how many bytes have arrived' });
  return offset;
}

/** Sends one part that begins at `from`; gives where the upload stands then. Asks the offset after each break. */
async function sendPart(call: Call, image: string, from: number, part: Uint8Array): Promise<number> {
  let at = from;
  for (let attempt = 0; ; attempt += 1) {
    try {
      if (attempt > 0) at = await offsetOf(call, image);
      if (at < from || at > from + part.length)
        throw new VirgaError('upload_offset', { name: image, expected: at, given: from });
      if (at === from + part.length) return at;
      const bytes = part.subarray(at - from);
      const headers = { 'upload-offset': String(at) };
      const answer = await call.client.raw('image.upload', {
        params: { image },
        bytes,
        headers,
        timeoutMs: 120_000,
        ...call.change,
      });
      await answer.body.dump();
      return from + part.length;
    } catch (error) {
      if (call.io.interrupted.aborted) throw new Interrupted();
      const passing =
        error instanceof VirgaError &&
        (['site_unreachable', 'not_leading', 'store_unavailable', 'overloaded', 'timeout', 'conflict'].includes(
          error.code,
        ) ||
          (error.code === 'upload_offset' && attempt === 0));
      if (!passing || attempt >= tries) throw error;
      await pause(Math.min(500 * 2 ** attempt, 10_000), call.io.interrupted);
    }
  }
}

export interface Uploaded {
  readonly image: ImageView;
  /** SHA-512 (hex) of what was read here; absent when all had been sent before. */
  readonly sha512?: string;
}

/** Uploads the whole and tells the site that it is all. */
export async function uploadImage(call: Call, source: Source, wanted: Announced): Promise<Uploaded> {
  const { image, resumed } = await announce(call, source, wanted);
  if (image.status.state === 'checking') return { image };
  const begin = resumed ? await offsetOf(call, image.id) : 0;
  if (resumed) call.out.note(`Going on with ${image.name} at ${Math.floor((begin / source.size) * 100)} %.`);
  const progress = new ByteProgress(call.io, image.name, source.size, call.out.json || call.out.quiet);
  const digest = new Digest();
  let pending: Uint8Array[] = [];
  let held = 0;
  let at = begin;
  const flush = async (): Promise<void> => {
    if (held === 0) return;
    at = await sendPart(call, image.id, at, Buffer.concat(pending, held));
    pending = [];
    held = 0;
    progress.at(at);
  };
  let position = 0;
  progress.at(begin);
  try {
    // From the beginning also when going on: the digest is of the whole file, so that a changed file is noticed.
    for await (const chunk of source.read(0)) {
      digest.update(chunk);
      const fresh = chunk.subarray(Math.min(chunk.length, Math.max(0, begin - position)));
      position += chunk.length;
      if (fresh.length === 0) continue;
      pending.push(fresh);
      held += fresh.length;
      if (held >= partBytes) await flush();
    }
    await flush();
  } finally {
    progress.finish();
  }
  return finish(call, image, digest.hex(), wanted.sha512);
}

async function finish(call: Call, image: ImageView, sha512: string, expected: string | undefined): Promise<Uploaded> {
  const finished = await repeating(call.io.interrupted, () =>
    call.client.call('image.finish', { params: { image: image.id }, body: {}, timeoutMs: 60_000, ...call.change }),
  );
  // The site refuses a wrong digest by itself when it was announced; the bytes that were read are judged here too.
  if (expected !== undefined && expected !== sha512)
    throw new VirgaError('image_digest', { what: 'file', actual: sha512, expected });
  return { image: finished, sha512 };
}

/** Waits, by watching, until the image is ready; throws the site's reason when it is refused. */
export async function awaitImage(call: Call, { image, sha512 }: Uploaded, seconds: number): Promise<ImageView> {
  const limit = deadline(call.io.interrupted, seconds);
  const line = new StatusLine(call.io, call.out.json || call.out.quiet);
  const read = async (): Promise<{ seen: ImageView[]; revision: number }> => {
    const { revision } = await call.client.call('site.status', { signal: limit.signal });
    return {
      seen: [await call.client.call('image.show', { params: { image: image.id }, signal: limit.signal })],
      revision,
    };
  };
  try {
    const ready = await until(
      call.client,
      'image',
      read,
      (sight) => {
        if (sight.what === 'gone' && sight.id === image.id)
          throw new VirgaError('not_found', { kind: 'image', name: image.name });
        if (sight.what !== 'is' || sight.document.kind !== 'image' || sight.document.id !== image.id) return undefined;
        const { status } = sight.document;
        if (status.state === 'checking') line.show(`${image.name} is being checked and converted`);
        if (status.state === 'failed') throw refused(sight.document);
        return status.state === 'ready' ? sight.document : undefined;
      },
      limit.signal,
    );
    checkSent(ready, sha512);
    return ready;
  } catch (error) {
    if (limit.passed()) throw timedOut(`the check of ${image.name}`, seconds);
    throw error;
  } finally {
    line.clear();
  }
}

function refused(image: ImageView): VirgaError {
  const { error } = image.status;
  const how = `The image "${image.name}" stays as failed; delete it: virga image delete ${image.name}`;
  // The image keeps the whole sentence; here it is said once.
  const detail = (error?.message ?? 'no reason given').replace(/^The image is refused: /, '');
  return new VirgaError('image_refused', { detail, how });
}

/** An upload that was taken up again with another file of the same size. */
function checkSent(image: ImageView, sent: string | undefined): void {
  const { givenSha512 } = image.status;
  if (sent !== undefined && givenSha512 !== undefined && sent !== givenSha512)
    throw new VirgaError('image_digest', {
      what: `image "${image.name}" on the site`,
      actual: givenSha512,
      expected: sent,
    });
}
