/** Fetching an image's stored copy: goes on after a break, verifies, and only then gives it its name. */
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { VirgaError } from '../../api/errors.ts';
import type { ImageView } from '../../api/schemas.ts';
import type { Call } from '../call.ts';
import { exitCodes, Failure, fileFailure, usage } from '../failure.ts';
import { Interrupted, pause, writeAll } from '../io.ts';
import { ByteProgress } from '../ui/progress.ts';
import { bytes } from '../units.ts';
import { Digest } from './source.ts';

const tries = 8;

/** Bytes of the stored copy from `offset` on; broken connections are taken up again. */
async function* stored(call: Call, image: ImageView, offset: number, size: number): AsyncGenerator<Uint8Array> {
  let at = offset;
  for (let attempt = 0; at < size; attempt += 1) {
    const before = at;
    try {
      const headers = at > 0 ? { range: `bytes=${at}-` } : {};
      const answer = await call.client.raw('image.download', {
        params: { image: image.id },
        headers,
        signal: call.io.interrupted,
      });
      let skip = answer.statusCode === 206 ? 0 : at;
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        const fresh = chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - fresh.length;
        at += fresh.length;
        if (fresh.length > 0) yield fresh;
      }
      if (at < size)
        throw new VirgaError('site_unreachable', {
          where: 'the site',
          detail: `it ended after ${at} of ${size} bytes`,
        });
    } catch (error) {
      if (call.io.interrupted.aborted) throw new Interrupted();
      if (at > before) attempt = 0;
      if (error instanceof VirgaError && error.code !== 'site_unreachable') throw error;
      if (attempt >= tries) throw error;
      await pause(Math.min(500 * 2 ** attempt, 10_000), call.io.interrupted);
    }
  }
}

async function digestOf(file: FileHandle, size: number, digest: Digest): Promise<void> {
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  for (let at = 0; at < size;) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - at), at);
    if (bytesRead === 0) throw usage('the part that was fetched before became shorter; remove it');
    digest.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

export async function downloadImage(call: Call<{ readonly force?: boolean }>): Promise<void> {
  const [name = '', path = ''] = call.args;
  const image = await call.client.call('image.show', { params: { image: name }, ...call.look });
  const copy = image.status.stored;
  if (!copy) throw new VirgaError('not_ready', { kind: 'image', name: image.name, state: image.status.state });
  if (path === '-') return toStdout(call, image, copy);
  const exists = await stat(path).then(
    (facts) => (facts.isDirectory() ? 'folder' : 'file'),
    () => undefined,
  );
  if (exists === 'folder') throw usage(`${path} is a folder; name a file in it`);
  if (exists !== undefined && call.options.force !== true)
    throw usage(`${path} exists already; choose another name, or --force`);
  await toFile(call, image, copy, path);
  call.out.document({ file: path, sizeBytes: copy.sizeBytes, sha512: copy.sha512 });
  call.out.line(`${path}  ${bytes(copy.sizeBytes)}  verified`);
}

type Copy = NonNullable<ImageView['status']['stored']>;

async function toStdout(call: Call, image: ImageView, copy: Copy): Promise<void> {
  if (call.out.json) throw usage('--json and "-" cannot both have standard output');
  const digest = new Digest();
  for await (const chunk of stored(call, image, 0, copy.sizeBytes)) {
    digest.update(chunk);
    await writeAll(call.io.stdout, chunk);
  }
  verify(digest.hex(), image, copy);
}

async function toFile(call: Call, image: ImageView, copy: Copy, path: string): Promise<void> {
  // The digest is in the name: a part of another image is never gone on with.
  const part = `${path}.${copy.sha512.slice(0, 12)}.part`;
  const digest = new Digest();
  const progress = new ByteProgress(call.io, image.name, copy.sizeBytes, call.out.json);
  try {
    const file = await open(part, 'a+', 0o600);
    try {
      const have = Math.min((await file.stat()).size, copy.sizeBytes);
      await file.truncate(have);
      await digestOf(file, have, digest);
      let at = have;
      progress.at(at);
      for await (const chunk of stored(call, image, have, copy.sizeBytes)) {
        await file.writeFile(chunk);
        digest.update(chunk);
        at += chunk.length;
        progress.at(at);
      }
      await file.sync();
    } finally {
      progress.finish();
      await file.close();
    }
    const actual = digest.hex();
    if (actual !== copy.sha512) await rm(part, { force: true });
    verify(actual, image, copy);
    await rename(part, path);
  } catch (error) {
    const local = (error as NodeJS.ErrnoException).code?.startsWith('E') === true && !(error instanceof VirgaError);
    throw local ? fileFailure(path, error) : error;
  }
}

function verify(actual: string, image: ImageView, copy: Copy): void {
  if (actual !== copy.sha512)
    throw new Failure(exitCodes.refused, 'image_digest', {
      what: `image "${image.name}"`,
      actual,
      expected: copy.sha512,
    });
}
