import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { VirgaError, type ErrorCode } from '../../../src/core/errors.ts';
import type { Log } from '../../../src/ports.ts';

/** A folder of its own, removed when the file's tests are over. */
export async function ownFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-images-'));
  after(async () => await rm(folder, { recursive: true, force: true }));
  return folder;
}

export const sha512 = (bytes: Uint8Array): string => createHash('sha512').update(bytes).digest('hex');

/** Bytes that no compression and no luck makes equal. */
export const noise = (length: number): Buffer => randomBytes(length);

export const quiet: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => quiet };

/** For `assert.rejects`: a VirgaError with this code, and these words in its message. */
export function virgaError(code: ErrorCode, words: RegExp = /./): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof VirgaError && error.code === code && words.test(error.message)) return true;
    throw new Error(`expected ${code} ${words}, got ${String(error)}`, { cause: error });
  };
}

/** Bytes in pieces; `between` is awaited before each. */
export async function* pieces(
  bytes: Uint8Array,
  length: number,
  between: (at: number) => Promise<void> | void = () => {},
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) {
    await between(at);
    yield bytes.subarray(at, at + length);
  }
}

/** Waits until the condition holds; fails after ten seconds. */
export async function eventually(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
