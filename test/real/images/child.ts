/**
 * One process that has image files open, for tests that kill it. Settings and order come as JSON in its arguments:
 *   append   takes standard input as the bytes; prints `durable N` after each flush
 *   finish   prints `step NAME` as it goes
 *   fill     the whole story of a disk that fills up, on a tmpfs; prints its findings as JSON
 *   cache    the same for a host's image cache
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openImageCache } from '../../../src/agent/images/cache.ts';
import type { FetchImage } from '../../../src/agent/images/types.ts';
import { openImageFiles } from '../../../src/controller/images/service.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { ImageFormat } from '../../../src/core/model/image.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { sandboxedQemuImg } from '../../../src/effects/qemu-img.ts';
import { buildRaw } from '../../unit/images/build.ts';
import { pieces, quiet, sha512 } from '../../unit/images/kit.ts';

interface Order {
  readonly verb: 'append' | 'finish' | 'fill' | 'cache';
  readonly folder: string;
  readonly id: string;
  readonly offset?: number;
  readonly format?: ImageFormat;
}

const order = JSON.parse(process.argv[2] ?? '{}') as Order;
const { folder, id } = order;
const records = durableFiles(folder);
const world = { tool: sandboxedQemuImg(), records, clock: systemClock, log: quiet };
const files = await openImageFiles({ folder, reserveBytes: 0 }, world);
const say = (line: string): boolean => process.stdout.write(`${line}\n`);

if (order.verb === 'append')
  await files.append(id, order.offset ?? 0, process.stdin, { onProgress: (bytes) => say(`durable ${bytes}`) });
else if (order.verb === 'finish')
  await files.finish(id, { format: order.format ?? 'raw', onProgress: (step) => say(`step ${step}`) });
else if (order.verb === 'fill') await fill();
else await fillCache();

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'none',
    (error: unknown) => (error instanceof VirgaError ? error.code : String(error)),
  );
}

/** On a tmpfs of 28 MiB: another file takes the space while an image of 12 MiB comes from the controller. */
async function fillCache(): Promise<void> {
  const bytes = buildRaw(12 * 1024 * 1024);
  const image = { sha512: sha512(bytes), sizeBytes: bytes.length };
  const filler = join(folder, 'filler');
  const asked: number[] = [];
  const fetch: FetchImage = async (_, from) => {
    asked.push(from);
    return await Promise.resolve(
      pieces(bytes.subarray(from), 65_536, async (at) => {
        if (from === 0 && at === 4 * 1024 * 1024)
          await writeFile(filler, Buffer.alloc(64 * 1024 * 1024)).catch(() => undefined);
      }),
    );
  };
  const cacheFolder = join(folder, 'cache');
  const cacheWorld = { fetch, records: durableFiles(cacheFolder), clock: systemClock, log: quiet };
  const cache = await openImageCache({ folder: cacheFolder, maxBytes: 1e9, reserveBytes: 0 }, cacheWorld);
  const first = await codeOf(cache.ensure(image));
  const second = await codeOf(cache.ensure(image));
  await rm(filler);
  const right = sha512(await readFile(await cache.ensure(image))) === image.sha512;
  say(JSON.stringify({ first, second, right, fetches: asked.length, resumed: (asked[1] ?? 0) >= 4 * 1024 * 1024 }));
}

/** On a tmpfs of 28 MiB: another file takes the space while an image of 12 MiB comes. */
async function fill(): Promise<void> {
  const bytes = buildRaw(12 * 1024 * 1024);
  const filler = join(folder, 'filler');
  await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
  const grab = async (at: number): Promise<void> => {
    if (at === 4 * 1024 * 1024) await writeFile(filler, Buffer.alloc(64 * 1024 * 1024)).catch(() => undefined);
  };
  const append = await codeOf(files.append(id, 0, pieces(bytes, 65_536, grab)));
  const kept = await files.offset(id);
  const restarted = await openImageFiles({ folder, reserveBytes: 0 }, { ...world, records: durableFiles(folder) });
  const keptAfterRestart = await restarted.offset(id);
  const other = await codeOf(files.begin({ id: id.replace(/^./, 'f'), name: 'other', sizeBytes: 1000 }));
  await rm(filler);
  const { complete } = await files.append(id, kept, pieces(bytes.subarray(kept), 65_536));
  // The copy does not fit beside it.
  await writeFile(filler, Buffer.alloc(4 * 1024 * 1024));
  const finish = await codeOf(files.finish(id, { format: 'raw' }));
  await rm(filler);
  const done = await files.finish(id, { format: 'raw' });
  const digest = sha512(await readFile(join(folder, 'uploads', `${id}.part`)));
  const right = done.givenSha512 === sha512(bytes) && digest === done.givenSha512;
  say(JSON.stringify({ append, kept, keptAfterRestart, other, complete, finish, right }));
}
