/** Where an image's bytes come from: a file, or an address that this machine fetches and passes on. */
import { createHash } from 'node:crypto';
import { mkdtemp, open, rm, stat, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileFailure, Failure, exitCodes, usage } from '../failure.ts';
import { Interrupted, pause, type Io } from '../io.ts';

export interface Source {
  readonly label: string;
  readonly size: number;
  /** Bytes from `offset` on; a broken download is taken up again where it was. */
  read(offset: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export const isUrl = (text: string): boolean => /^https?:\/\//i.test(text);

export function openSource(io: Io, path: string): Promise<Source> {
  if (isUrl(path)) return openUrl(io, path);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path)) throw usage(`${path}: only http and https addresses, or a file`);
  return openFile(path);
}

const chunkBytes = 1024 * 1024;

async function openFile(path: string): Promise<Source> {
  let file: FileHandle;
  let size: number;
  try {
    const facts = await stat(path);
    if (facts.isDirectory()) throw usage(`${path} is a folder`);
    if (!facts.isFile()) throw usage(`${path} is not a plain file`);
    file = await open(path, 'r');
    size = facts.size;
  } catch (error) {
    throw error instanceof Failure ? error : fileFailure(path, error);
  }
  if (size === 0) {
    await file.close();
    throw usage(`${path} is empty`);
  }
  return {
    label: basename(path),
    size,
    close: () => file.close(),
    read: (offset) => readHandle(file, path, offset, size),
  };
}

async function* readHandle(file: FileHandle, path: string, offset: number, size: number): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < size;) {
    const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, size - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw usage(`${path} became shorter while it was read (${at} of ${size} bytes)`);
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Milliseconds without a byte after which a download counts as broken. */
const stallMs = 60_000;
const tries = 6;

function urlFailure(url: string, error: unknown): Failure {
  const cause = ((error as Error).cause ?? error) as Error;
  return new Failure(exitCodes.refused, 'usage', { detail: `${url}: ${cause.message}` }, { cause: error });
}

/** An answer with a body; the signal ends it when nothing comes for a minute. */
class Fetched {
  readonly response: Response;
  readonly #stall: AbortController;

  private constructor(response: Response, stall: AbortController) {
    this.response = response;
    this.#stall = stall;
  }

  static async from(io: Io, url: string, offset: number, tag: string | undefined): Promise<Fetched> {
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(new Error('no answer within 60 s')), stallMs);
    const range = offset > 0 ? { range: `bytes=${offset}-`, ...(tag === undefined ? {} : { 'if-range': tag }) } : {};
    try {
      const response = await fetch(url, {
        headers: { 'accept-encoding': 'identity', ...range },
        signal: AbortSignal.any([io.interrupted, stall.signal]),
      });
      return new Fetched(response, stall);
    } finally {
      clearTimeout(timer);
    }
  }

  async *bytes(): AsyncGenerator<Uint8Array> {
    const { body } = this.response;
    if (!body) return;
    let timer = setTimeout(() => this.#stall.abort(), stallMs);
    try {
      for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
        clearTimeout(timer);
        yield chunk;
        timer = setTimeout(() => this.#stall.abort(new Error('nothing came for 60 s')), stallMs);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  stop(): void {
    this.#stall.abort();
  }
}

async function openUrl(io: Io, url: string): Promise<Source> {
  let first: Fetched;
  try {
    first = await Fetched.from(io, url, 0, undefined);
  } catch (error) {
    if (io.interrupted.aborted) throw new Interrupted();
    throw urlFailure(url, error);
  }
  const { response } = first;
  if (!response.ok) {
    first.stop();
    throw new Failure(exitCodes.refused, 'usage', {
      detail: `${url} answered ${response.status} ${response.statusText}`,
    });
  }
  const size = Number(response.headers.get('content-length') ?? Number.NaN);
  const label = basename(new URL(url).pathname) || url;
  if (!Number.isSafeInteger(size) || response.headers.get('content-encoding') !== null)
    return spool(io, url, label, first);
  if (size === 0) throw usage(`${url} is empty`);
  const tag = response.headers.get('etag') ?? response.headers.get('last-modified') ?? undefined;
  return {
    label,
    size,
    close: async () => first.stop(),
    read: (offset) => readUrl(io, { url, size, tag: tag?.startsWith('W/') === true ? undefined : tag }, offset, first),
  };
}

interface Remote {
  readonly url: string;
  readonly size: number;
  readonly tag: string | undefined;
}

async function* readUrl(io: Io, remote: Remote, offset: number, first: Fetched): AsyncGenerator<Uint8Array> {
  let at = offset;
  let fetched: Fetched | undefined = offset === 0 && !first.response.bodyUsed ? first : undefined;
  for (let attempt = 0; at < remote.size; attempt += 1) {
    const before = at;
    try {
      fetched ??= await Fetched.from(io, remote.url, at, remote.tag);
      // Without ranges the whole comes again; what is known already is passed over.
      let skip = fetched.response.status === 206 ? 0 : at;
      if (!fetched.response.ok) throw new Error(`it answered ${fetched.response.status}`);
      for await (const chunk of fetched.bytes()) {
        const fresh = chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - fresh.length;
        if (fresh.length === 0) continue;
        if (at + fresh.length > remote.size)
          throw usage(`${remote.url} sends more than the ${remote.size} bytes it announced`);
        at += fresh.length;
        yield fresh;
      }
      if (at < remote.size) throw new Error(`it ended after ${at} of ${remote.size} bytes`);
    } catch (error) {
      if (io.interrupted.aborted) throw new Interrupted();
      if (error instanceof Failure) throw error;
      // Progress earns new tries.
      if (at > before) attempt = 0;
      if (attempt >= tries) throw urlFailure(remote.url, error);
      await pause(Math.min(500 * 2 ** attempt, 10_000), io.interrupted);
    } finally {
      fetched?.stop();
      fetched = undefined;
    }
  }
}

/** An address that does not say its size: fetched into a temporary file first, since the site wants to know it. */
async function spool(io: Io, url: string, label: string, fetched: Fetched): Promise<Source> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-image-'));
  const clean = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, 'image');
    const file = await open(path, 'wx', 0o600);
    try {
      for await (const chunk of fetched.bytes()) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    const source = await openFile(path);
    return {
      ...source,
      label,
      close: async () => {
        await source.close();
        await clean();
      },
    };
  } catch (error) {
    await clean();
    if (io.interrupted.aborted) throw new Interrupted();
    throw error instanceof Failure ? error : urlFailure(url, error);
  }
}

/** SHA-512 (hex) of what passes. */
export class Digest {
  readonly #hash = createHash('sha512');
  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }
  hex(): string {
    return this.#hash.digest('hex');
  }
}
