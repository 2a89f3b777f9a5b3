import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { haveLists, updateLists } from '../setup/apt.ts';
import { run } from '../setup/command.ts';
import { withLock } from '../setup/lock.ts';
import { buildTiny, kernelPackage, type KernelPackage } from './tiny-build.ts';
import { guestFiles, kernelCommandLine, modulesFirst, modulesLater } from './tiny-files.ts';

/** Raise it when the builder changes in a way that the guest's files do not show. */
const builderVersion = 1;

export interface TinyImage {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** Of the file, lower-case hexadecimal. */
  readonly sha512: string;
  readonly bytes: number;
}

export interface TinyOptions {
  /** `/var/cache/virga` by default. */
  readonly cacheDir?: string;
  /** Told what is being done, when it has to be built. */
  readonly say?: (line: string) => void;
}

/**
 * The tiny guest's disk: built from the distribution's packages at first use (about 3 s), then taken from the cache.
 * Safe to call from many processes at once. Throws when a package cannot be fetched or a tool is missing (the
 * packages for `testbed` of `src/setup/packages.ts` have all of them).
 */
export async function tinyImage(options: TinyOptions = {}): Promise<TinyImage> {
  const cache = options.cacheDir ?? '/var/cache/virga';
  const cached = await findCached(cache);
  if (cached !== undefined) return cached;
  if (process.arch !== 'x64')
    throw new Error(`the tiny guest is built for x86-64 only, this machine is ${process.arch}`);
  return withLock(join(cache, 'tiny.lock'), 'building the tiny guest', 300_000, async () => {
    const made = await findCached(cache);
    if (made !== undefined) return made;
    return build(cache, options.say ?? (() => undefined));
  });
}

/** Everything that decides what the image is, but the kernel's version. */
function recipe(): string {
  const parts = [builderVersion, kernelCommandLine, modulesFirst, modulesLater, guestFiles];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

interface Manifest {
  readonly recipe: string;
  readonly kernel: KernelPackage;
  readonly sha512: string;
  readonly bytes: number;
}

/** A cached image of this recipe stays in use when the distribution has a newer kernel: it works, and is pinned. */
async function findCached(cache: string): Promise<TinyImage | undefined> {
  const wanted = recipe();
  const names = (await readdir(cache).catch(() => [])).filter((name) => /^tiny-[0-9a-f]{16}$/.test(name)).sort();
  for (const name of names) {
    const path = join(cache, name, 'tiny.qcow2');
    const text = await readFile(join(cache, name, 'manifest.json'), 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const manifest = JSON.parse(text) as Manifest;
    const size = await stat(path).then(
      (found) => found.size,
      () => -1,
    );
    if (manifest.recipe === wanted && size === manifest.bytes) {
      return { path, format: 'qcow2', sha512: manifest.sha512, bytes: size };
    }
  }
  return undefined;
}

async function build(cache: string, say: (line: string) => void): Promise<TinyImage> {
  if (!(await haveLists())) await updateLists();
  const kernel = await kernelPackage();
  if (kernel === undefined) {
    throw new Error(
      'the distribution’s package lists know no linux-image-cloud-amd64; look at: apt-cache policy linux-image-cloud-amd64',
    );
  }
  const work = await mkdtemp(join(cache, 'tiny-building-'));
  try {
    const image = await buildTiny(kernel, work, say).catch((cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`cannot build the tiny guest with ${kernel.name} ${kernel.version}: ${reason}`, { cause });
    });
    const bytes = (await stat(image)).size;
    const sha512 = await sha512Of(image);
    const ready = join(work, 'ready');
    await mkdir(ready);
    await rename(image, join(ready, 'tiny.qcow2'));
    const manifest: Manifest = { recipe: recipe(), kernel, sha512, bytes };
    await writeFile(join(ready, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
    const key = createHash('sha256')
      .update(`${manifest.recipe} ${kernel.name} ${kernel.version}`)
      .digest('hex')
      .slice(0, 16);
    const home = join(cache, `tiny-${key}`);
    await rm(home, { recursive: true, force: true });
    await rename(ready, home);
    await prune(cache, home);
    say(`the tiny guest is ready: ${home}/tiny.qcow2`);
    return { path: join(home, 'tiny.qcow2'), format: 'qcow2', sha512, bytes };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Images of older recipes that nobody has made or used for 30 days (an overlay may still stand on a younger one). */
async function prune(cache: string, keep: string): Promise<void> {
  const limit = Date.now() - 30 * 86_400_000;
  for (const name of await readdir(cache)) {
    const path = join(cache, name);
    if (path === keep || !/^tiny-([0-9a-f]{16}|building-.*)$/.test(name)) continue;
    const image = await stat(join(path, 'tiny.qcow2')).catch(() => stat(path));
    if (Math.max(image.mtimeMs, image.atimeMs) < limit) await rm(path, { recursive: true, force: true });
  }
}

async function sha512Of(path: string): Promise<string> {
  const hash = createHash('sha512');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/**
 * Another image that boots like the tiny guest but has other bytes (its unused second sector holds `label`), for
 * tests that need several images or another format. Takes under a second.
 * @param path the file to write; must not exist.
 */
export async function tinyVariant(
  path: string,
  label: string,
  options: { readonly format?: 'qcow2' | 'raw'; readonly compressed?: boolean } = {},
): Promise<TinyImage> {
  const format = options.format ?? 'qcow2';
  const base = await tinyImage();
  const raw = `${path}.raw`;
  try {
    await run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', base.path, raw], { timeoutMs: 60_000 });
    const file = await open(raw, 'r+');
    const mark = Buffer.alloc(512);
    mark.write(label.slice(0, 500));
    await file.write(mark, 0, 512, 512);
    await file.close();
    if (format === 'raw') await rename(raw, path);
    else {
      const compress = options.compressed === true ? ['-c'] : [];
      await run(['qemu-img', 'convert', ...compress, '-f', 'raw', '-O', format, raw, path], { timeoutMs: 60_000 });
    }
  } finally {
    await rm(raw, { force: true });
  }
  return { path, format, sha512: await sha512Of(path), bytes: (await stat(path)).size };
}

/** The three files of a NoCloud seed. */
export interface SeedFiles {
  readonly metaData: string;
  readonly userData?: string;
  readonly networkConfig?: string;
}

/** Writes a NoCloud seed (ISO 9660, label cidata) for tests that start guests without a manager. */
export async function tinySeed(path: string, files: SeedFiles): Promise<void> {
  const dir = await mkdtemp(`${path}.`);
  try {
    await writeFile(join(dir, 'meta-data'), files.metaData);
    await writeFile(join(dir, 'user-data'), files.userData ?? '');
    if (files.networkConfig !== undefined) await writeFile(join(dir, 'network-config'), files.networkConfig);
    await run(['xorriso', '-as', 'genisoimage', '-quiet', '-V', 'cidata', '-J', '-r', '-o', path, dir]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
