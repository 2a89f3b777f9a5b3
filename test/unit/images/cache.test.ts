import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, truncate, utimes, writeFile, chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openImageCache } from '../../../src/agent/images/cache.ts';
import type { FetchImage, ImageCache, ImageCacheSettings, WantedImage } from '../../../src/agent/images/types.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import type { Clock } from '../../../src/ports.ts';
import { eventually, noise, ownFolder, pieces, quiet, sha512, virgaError } from './kit.ts';

interface Image extends WantedImage {
  readonly bytes: Buffer;
}

function image(sizeBytes = 200_000): Image {
  const bytes = noise(sizeBytes);
  return { bytes, sha512: sha512(bytes), sizeBytes };
}

type Way = (image: Image, from: number, signal: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;
const whole: Way = async (image, from) => await Promise.resolve(pieces(image.bytes.subarray(from), 30_000));

/** A controller that has these images. `ways` are taken one after the other, the last for ever. */
class Controller {
  readonly asked: { sha512: string; from: number }[] = [];
  readonly #images: readonly Image[];
  readonly #ways: Way[];

  constructor(images: readonly Image[], ...ways: Way[]) {
    this.#images = images;
    this.#ways = ways;
  }

  readonly fetch: FetchImage = async (digest, from, signal) => {
    this.asked.push({ sha512: digest, from });
    const image = this.#images.find((each) => each.sha512 === digest);
    if (!image) throw new VirgaError('not_found', { kind: 'image', name: digest });
    const way = this.#ways.length > 1 ? this.#ways.shift() : this.#ways[0];
    return await (way ?? whole)(image, from, signal);
  };

  get froms(): readonly number[] {
    return this.asked.map((each) => each.from);
  }
}

/** Time that jumps over every pause, and remembers them. */
class JumpingClock implements Clock {
  readonly pauses: number[] = [];
  #now = 1_000_000;

  now(): number {
    return (this.#now += 1000);
  }
  monotonic(): number {
    return this.#now;
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.pauses.push(ms);
    this.#now += ms;
    await Promise.resolve(signal?.throwIfAborted());
  }
}

async function open(
  folder: string,
  controller: Controller,
  settings: Partial<ImageCacheSettings> = {},
  clock: Clock = new JumpingClock(),
): Promise<ImageCache> {
  const world = { fetch: controller.fetch, records: durableFiles(folder), clock, log: quiet };
  return await openImageCache({ folder, maxBytes: 1e9, reserveBytes: 0, ...settings }, world);
}

const breaksAt =
  (at: number): Way =>
  async (image, from) =>
    await Promise.resolve(
      pieces(image.bytes.subarray(from), 10_000, (done) => {
        if (from + done >= at) throw new Error('socket hang up');
      }),
    );

describe('the image cache', () => {
  it('fetches an image once, however many guests ask', async () => {
    const wanted = image();
    const controller = new Controller([wanted]);
    const cache = await open(await ownFolder(), controller);
    const seen: number[] = [];
    const paths = await Promise.all(
      Array.from({ length: 50 }, async () => await cache.ensure(wanted, (fraction) => seen.push(fraction))),
    );
    assert.deepEqual(new Set(paths), new Set([cache.path(wanted.sha512)]));
    assert.deepEqual(await readFile(cache.path(wanted.sha512)), wanted.bytes);
    await cache.ensure(wanted);
    assert.equal(controller.asked.length, 1);
    assert.equal(seen.at(-1), 1);
    assert.equal((await stat(cache.path(wanted.sha512))).mode & 0o777, 0o444);
    assert.deepEqual(await cache.list(), [wanted.sha512]);
  });

  it('fetches only so many at a time', async () => {
    const images = [image(), image(), image(), image()];
    let [running, most] = [0, 0];
    const counted: Way = async (image, from) => {
      most = Math.max(most, ++running);
      return await Promise.resolve(
        pieces(image.bytes.subarray(from), 50_000, async (at) => {
          await new Promise(setImmediate);
          if (at + 50_000 >= image.sizeBytes) running--;
        }),
      );
    };
    const cache = await open(await ownFolder(), new Controller(images, counted), { maxFetches: 2 });
    await Promise.all(images.map(async (each) => await cache.ensure(each)));
    assert.equal(most, 2);
    assert.equal((await cache.list()).length, 4);
  });

  it('goes on where a broken connection stopped, with growing pauses', async () => {
    const wanted = image();
    const refuses: Way = async () => await Promise.reject(new Error('connection refused'));
    const controller = new Controller([wanted], breaksAt(50_000), refuses, refuses, refuses, whole);
    const clock = new JumpingClock();
    const cache = await open(await ownFolder(), controller, {}, clock);
    await cache.ensure(wanted);
    assert.deepEqual(controller.froms, [0, 50_000, 50_000, 50_000, 50_000]);
    assert.deepEqual(clock.pauses, [250, 500, 1000, 2000]);
    assert.deepEqual(await readFile(cache.path(wanted.sha512)), wanted.bytes);
  });

  it('gives up after so many tries without a byte, and a later call goes on from there', async () => {
    const wanted = image();
    const controller = new Controller([wanted], breaksAt(60_000));
    const folder = await ownFolder();
    const cache = await open(folder, controller, { maxTries: 3 });
    await assert.rejects(cache.ensure(wanted), virgaError('site_unreachable', /socket hang up/));
    assert.deepEqual(controller.froms, [0, 60_000, 60_000]);
    assert.deepEqual(await cache.list(), []);
    const next = new Controller([wanted]);
    const restarted = await open(folder, next);
    await restarted.ensure(wanted);
    assert.deepEqual(next.froms, [60_000]);
  });

  it('gives up a connection that falls silent', async () => {
    const wanted = image();
    const silent: Way = async (image, from) =>
      await Promise.resolve(
        pieces(image.bytes.subarray(from), 10_000, async (at) => {
          if (at === 20_000) await new Promise(() => {});
        }),
      );
    const never: Way = async () => await new Promise(() => {});
    const controller = new Controller([wanted], silent, never, whole);
    const cache = await open(await ownFolder(), controller, { idleMs: 50 });
    await cache.ensure(wanted);
    assert.deepEqual(controller.froms, [0, 20_000, 20_000]);
  });

  it('refuses bytes that are not the image', async () => {
    const wanted = image();
    const other = { ...wanted, bytes: noise(wanted.sizeBytes) };
    const cache = await open(await ownFolder(), new Controller([other]));
    await assert.rejects(cache.ensure(wanted), virgaError('image_digest', new RegExp(wanted.sha512)));
    assert.deepEqual(await cache.list(), []);
    const longer = { ...wanted, bytes: Buffer.concat([wanted.bytes, noise(1)]) };
    const second = await open(await ownFolder(), new Controller([longer]));
    await assert.rejects(second.ensure(wanted), virgaError('image_digest', /more than 200000 bytes/));
    const none = await open(await ownFolder(), new Controller([]));
    await assert.rejects(none.ensure(wanted), virgaError('not_found'));
    await assert.rejects(none.ensure({ ...wanted, sha512: '../x' }), virgaError('not_found'));
  });

  it('fetches anew what was damaged on the way, or on disk while it waited', async () => {
    const wanted = image();
    const folder = await ownFolder();
    const first = await open(folder, new Controller([wanted], breaksAt(60_000)), { maxTries: 1 });
    await assert.rejects(first.ensure(wanted));
    await writeFile(join(folder, 'partial', `${wanted.sha512}.part`), noise(60_000));
    const controller = new Controller([wanted]);
    const second = await open(folder, controller);
    await second.ensure(wanted);
    assert.deepEqual(controller.froms, [60_000, 0]);
    assert.deepEqual(await readFile(second.path(wanted.sha512)), wanted.bytes);
  });

  it('notices a cached file that was written to, cut off, or lost its seal', async () => {
    const wanted = image();
    const folder = await ownFolder();
    const controller = new Controller([wanted]);
    const damages: readonly [fetches: number, (path: string) => Promise<void>][] = [
      [2, async (path) => await writeFile(path, noise(wanted.sizeBytes))],
      [3, async (path) => await truncate(path, 1000)],
      // Sound bytes: the digest says so, nothing is fetched.
      [3, async (path) => await utimes(path, 1, 1)],
      [3, async () => await rm(join(folder, `${wanted.sha512}.json`))],
      [3, async () => await writeFile(join(folder, `${wanted.sha512}.json`), 'torn')],
      [4, async (path) => await rm(path)],
    ];
    let cache = await open(folder, controller);
    await cache.ensure(wanted);
    for (const [fetches, damage] of damages) {
      const path = cache.path(wanted.sha512);
      await chmod(path, 0o644);
      await damage(path);
      cache = await open(folder, controller);
      await cache.ensure(wanted);
      assert.equal(controller.asked.length, fetches);
      assert.deepEqual(await readFile(path), wanted.bytes);
    }
    await writeFile(cache.path(wanted.sha512), noise(wanted.sizeBytes));
    await cache.ensure(wanted);
    assert.equal(controller.asked.length, 5, 'noticed while the agent runs, too');
  });

  it('removes the longest unused image that no guest needs, until it is within its bound', async () => {
    const [a, b, c, d] = [image(), image(), image(), image()];
    const folder = await ownFolder();
    const clock = new JumpingClock();
    const controller = new Controller([a, b, c, d]);
    const cache = await open(folder, controller, { maxBytes: 600_000 }, clock);
    for (const each of [a, b, c, d]) await cache.ensure(each);
    await cache.ensure(a);
    assert.deepEqual(await cache.evict(new Set([b.sha512])), [c.sha512]);
    assert.deepEqual(await cache.evict(new Set([b.sha512])), []);
    // The last uses are on disk.
    const restarted = await open(folder, controller, { maxBytes: 600_000 }, clock);
    assert.deepEqual(await restarted.evict(new Set([b.sha512]), 400_000), [d.sha512, a.sha512]);
    assert.deepEqual(await restarted.evict(new Set([b.sha512]), 1e9), []);
    assert.deepEqual(await restarted.list(), [b.sha512]);
    assert.deepEqual((await readdir(folder)).sort(), [`${b.sha512}.json`, `${b.sha512}.qcow2`, 'partial'].sort());
  });

  it('removes beginnings that nobody wants', async () => {
    const [a, b] = [image(), image()];
    const folder = await ownFolder();
    const cache = await open(folder, new Controller([a, b], breaksAt(60_000)), { maxTries: 1 });
    await assert.rejects(cache.ensure(a));
    await assert.rejects(cache.ensure(b));
    await cache.evict(new Set([b.sha512]));
    assert.deepEqual(await readdir(join(folder, 'partial')), [`${b.sha512}.part`]);
  });

  it('demands that space is left for others', async () => {
    const wanted = image();
    const controller = new Controller([wanted]);
    const cache = await open(await ownFolder(), controller, { reserveBytes: 2 ** 52 });
    await assert.rejects(cache.ensure(wanted), virgaError('disk_full', /kept for others/));
    assert.equal(controller.asked.length, 0);
  });

  it('ends a fetch when nobody waits for it any more, and not before', async () => {
    const wanted = image();
    const ended: unknown[] = [];
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    const slow: Way = async (image, from, signal) => {
      signal.addEventListener('abort', () => ended.push(signal.reason));
      return await Promise.resolve(
        pieces(image.bytes.subarray(from), 50_000, async (at) => await (at === 0 ? undefined : gate)),
      );
    };
    const controller = new Controller([wanted], slow);
    const cache = await open(await ownFolder(), controller);
    const [one, two] = [new AbortController(), new AbortController()];
    const first = assert.rejects(cache.ensure(wanted, undefined, one.signal), virgaError('cancelled'));
    const second = assert.rejects(cache.ensure(wanted, undefined, two.signal), virgaError('cancelled'));
    await eventually(() => controller.asked.length === 1, 'the fetch begins');
    one.abort();
    await first;
    assert.equal(ended.length, 0);
    two.abort();
    await second;
    assert.equal(ended.length, 1);
    release();
    await cache.ensure(wanted);
    assert.deepEqual(controller.froms, [0, 50_000]);
    const third = image();
    const hanging = await open(await ownFolder(), new Controller([third], async () => await new Promise(() => {})));
    const closed = assert.rejects(hanging.ensure(third), virgaError('cancelled'));
    await hanging.close();
    await closed;
  });
});
