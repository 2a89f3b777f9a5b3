/**
 * Copies of images from the other controllers, so that each of them can serve hosts when it leads. A copy goes on where it
 * broke off, also after a restart, and is put on the shelf when its digest is right.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import type { StoredImages } from '../../api/link.ts';
import { VirgaError } from '../../core/errors.ts';
import { demandSpace, diskError } from '../../effects/disk.ts';
import type { Clock, Log } from '../../ports.ts';
import type { ServerIdentity } from '../ca.ts';
import type { ImageFiles } from './types.ts';

type Wanted = StoredImages['images'][number];

export interface CopiesOptions {
  /** Of the image files; what is on its way lies in `incoming/` below. */
  readonly folder: string;
  readonly files: Pick<ImageFiles, 'size' | 'take'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Addresses of the other controllers, the leader's first. */
  readonly sources: () => readonly string[];
  /** What calls them; undefined while there is none. */
  readonly identity: () => (Pick<ServerIdentity, 'certificate' | 'key'> & { readonly ca: string }) | undefined;
  /** Digests that are needed, where this controller leads and knows; undefined: what the source lists. */
  readonly wanted: () => readonly Wanted[] | undefined;
}

/** Milliseconds between two looks at what is lacking. */
const everyMs = 5000;
const maxListBytes = 4 * 1024 * 1024;
/** Free space that is left to others. */
const reserveBytes = 1024 ** 3;
const flushBytes = 32 * 1024 * 1024;
const digestPattern = /^[0-9a-f]{128}$/;

export class ImageCopies {
  readonly #options: CopiesOptions;
  readonly #folder: string;
  /** The same trouble is told once. */
  readonly #told = new Set<string>();

  constructor(options: CopiesOptions) {
    this.#options = options;
    this.#folder = join(options.folder, 'incoming');
  }

  /** Copies what is lacking, one image after the other, until the signal. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.once(signal);
      await this.#options.clock.sleep(everyMs, signal).catch(() => undefined);
    }
  }

  /** One look at every source. @returns how many images came. Never rejects. */
  async once(signal: AbortSignal): Promise<number> {
    const { sources, identity } = this.#options;
    const own = identity();
    if (!own) return 0;
    let came = 0;
    for (const url of sources()) {
      const http = new Agent({
        connect: {
          ca: own.ca,
          cert: own.certificate,
          key: own.key,
          minVersion: 'TLSv1.3',
          timeout: 5000,
          // Known by its name in the site's authority, not by its address, as agents do.
          checkServerIdentity: (_host, { subject }) =>
            subject.CN === 'controller' ? undefined : new Error('it is not a controller of this site'),
        },
        headersTimeout: 10_000,
        bodyTimeout: 30_000,
        connections: 2,
      });
      try {
        came += await this.#from(url, http, signal);
      } catch (error) {
        this.#tell(`${url}: ${String(error)}`, 'images of another controller could not be copied', { url, error });
      } finally {
        await http.destroy();
      }
    }
    return came;
  }

  async #from(url: string, http: Agent, signal: AbortSignal): Promise<number> {
    const { wanted, files, log } = this.#options;
    const there = await list(url, http, signal);
    const needed = wanted()?.map(({ sha512 }) => sha512);
    let came = 0;
    await this.#clean(new Set(needed ?? there.map(({ sha512 }) => sha512)));
    for (const image of there) {
      if (signal.aborted) break;
      if ((needed && !needed.includes(image.sha512)) || (await files.size(image.sha512)) !== undefined) continue;
      await this.#copy(url, http, image, signal);
      log.info('copied an image from another controller', { url, sha512: image.sha512.slice(0, 16) });
      came += 1;
    }
    return came;
  }

  async #copy(url: string, http: Agent, image: Wanted, signal: AbortSignal): Promise<void> {
    const path = join(this.#folder, `${image.sha512}.part`);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const have = await lengthOf(path);
    try {
      if (have < image.sizeBytes) {
        await demandSpace(this.#folder, image.sizeBytes - have, reserveBytes);
        await fetchRest(`${url}/agent/v1/images/${image.sha512}`, path, have, image, http, signal);
      }
    } catch (error) {
      throw diskError(error, path);
    }
    const actual = await digestOf(path, signal);
    if (actual !== image.sha512) {
      await rm(path, { force: true });
      const what = 'copy of an image';
      throw new VirgaError('image_digest', { what, actual: actual.slice(0, 16), expected: image.sha512.slice(0, 16) });
    }
    await this.#options.files.take(image.sha512, path);
  }

  /** Parts of images that no source has any more. */
  async #clean(listed: ReadonlySet<string>): Promise<void> {
    const needed = new Set([...listed].map((sha512) => `${sha512}.part`));
    for (const file of await readdir(this.#folder).catch(() => []))
      if (!needed.has(file)) await rm(join(this.#folder, file), { force: true });
  }

  #tell(key: string, message: string, values: { readonly url: string; readonly error: unknown }): void {
    if (this.#told.has(key)) return;
    if (this.#told.size > 100) this.#told.clear();
    this.#told.add(key);
    this.#options.log.warn(message, { url: values.url, error: String(values.error) });
  }
}

async function list(url: string, http: Agent, signal: AbortSignal): Promise<readonly Wanted[]> {
  const answer = await request(`${url}/agent/v1/images`, { dispatcher: http, signal });
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of answer.body as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    if (bytes > maxListBytes) throw new VirgaError('body_too_large', { limit: '4 MiB' });
    parts.push(part);
  }
  if (answer.statusCode !== 200)
    throw new VirgaError('site_unreachable', { where: url, detail: `status ${answer.statusCode} for its images` });
  const { images } = JSON.parse(Buffer.concat(parts).toString('utf8')) as StoredImages;
  return images.filter(({ sha512, sizeBytes }) => digestPattern.test(sha512) && Number.isSafeInteger(sizeBytes));
}

async function lengthOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

async function fetchRest(
  url: string,
  path: string,
  from: number,
  image: Wanted,
  http: Agent,
  signal: AbortSignal,
): Promise<void> {
  const headers = from > 0 ? { range: `bytes=${from}-` } : {};
  const { statusCode, body } = await request(url, { dispatcher: http, signal, headers });
  if (statusCode !== (from > 0 ? 206 : 200)) {
    await body.dump({ limit: 65_536 });
    throw new VirgaError('site_unreachable', { where: url, detail: `status ${statusCode}` });
  }
  const handle = await open(path, 'a', 0o600);
  try {
    let length = from;
    let unsynced = 0;
    for await (const part of body as AsyncIterable<Uint8Array>) {
      length += part.length;
      if (length > image.sizeBytes)
        throw new VirgaError('site_unreachable', { where: url, detail: 'it sends too much' });
      await handle.write(part);
      unsynced += part.length;
      if (unsynced < flushBytes) continue;
      await handle.datasync();
      unsynced = 0;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function digestOf(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha512');
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}
