/**
 * qemu-img, only ever in the sandbox, with every format pinned and never probed (CVE-2024-32498, CVE-2026-24708). Inside, files have
 * fixed names, so that no path of ours and no word of a user reaches its command line, but the text of a backing path.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { ImageFormat } from '../core/model/image.ts';
import { nobody, runSandboxed, type SandboxJob, type SandboxResult } from './sandbox.ts';

const program = '/usr/bin/qemu-img';
const input = '/in/image';
const output = '/out/image';
const GiB = 1024 ** 3;

export interface PinnedFile {
  readonly path: string;
  readonly format: ImageFormat;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds; per call its own default. */
  readonly timeoutMs?: number;
}

export interface DiskInfo {
  readonly virtualBytes: number;
  /** Blocks that the file takes. */
  readonly actualBytes: number;
  readonly backingPath?: string;
  readonly encrypted: boolean;
  /** Names of internal snapshots. */
  readonly snapshots: readonly string[];
}

export interface CheckReport {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
  readonly allocatedClusters: number;
  readonly compressedClusters: number;
}

export interface ConvertOptions extends CallOptions {
  /** The new file may not become longer. */
  readonly maxBytes: number;
  /** 0..1 */
  readonly onProgress?: (fraction: number) => void;
}

/**
 * Every call rejects with VirgaError `timeout`, `cancelled`, `disk_full`, `setup` (no sandbox), or `image_refused` with the last line
 * that qemu-img said.
 */
export interface QemuImg {
  /** Of one file; a backing file is named, never opened. `ours`: a disk that Virga made, read with its owner's rights. */
  info(file: PinnedFile, options?: CallOptions & { readonly ours?: boolean }): Promise<DiskInfo>;
  /** The tables of a qcow2 file (a raw one has none). */
  check(file: PinnedFile, options?: CallOptions & { readonly ours?: boolean }): Promise<CheckReport>;
  /** Bytes that its content takes as qcow2. */
  measure(file: PinnedFile, options?: CallOptions): Promise<{ readonly requiredBytes: number }>;
  /** To a fresh qcow2 (compat 1.1) without backing file; whole and synced, or not there at all. */
  convert(file: PinnedFile, target: string, options: ConvertOptions): Promise<void>;
  /** A larger virtual size for a disk of ours that no guest runs on; smaller is refused. `backing`: the files that its chain names. */
  resize(
    file: PinnedFile & { readonly backing: readonly string[] },
    virtualBytes: number,
    options?: CallOptions,
  ): Promise<void>;
}

export interface QemuImgSettings {
  /** Address space of one call; 2 GiB by default. */
  readonly memoryBytes?: number;
}

/** The real one. Works as root and as an ordinary user. */
export function sandboxedQemuImg(settings: QemuImgSettings = {}): QemuImg {
  const call = async (verb: string, job: Call): Promise<SandboxResult> => {
    const timeoutMs = job.timeoutMs ?? 60_000;
    const done = await runSandboxed({
      program,
      args: [verb, ...job.args],
      readable: job.readable ?? [],
      writable: job.writable ?? [],
      limits: {
        // Several threads convert: they may use more than the time on the wall, on this many processors.
        cpuSeconds: Math.ceil(timeoutMs / 1000) * 4,
        memoryBytes: settings.memoryBytes ?? 2 * GiB,
        fileBytes: job.maxBytes ?? 0,
        openFiles: 64,
      },
      timeoutMs,
      ...(job.signal ? { signal: job.signal } : {}),
      ...(job.identity ? { identity: job.identity } : {}),
      ...(job.onOutput ? { onOutput: job.onOutput } : {}),
    });
    if (done.end !== 'exit' || !(job.codes ?? [0]).includes(done.code)) throw failure(verb, done, job, timeoutMs);
    return done;
  };
  return {
    info: async (file, options = {}) => {
      const identity = options.ours ? await ownerOf(file.path) : undefined;
      const args = ['-f', file.format, '--output=json', input];
      const done = await call('info', {
        ...options,
        args,
        readable: [{ from: file.path, to: input }],
        ...only({ identity }),
      });
      return parseInfo(done.stdout);
    },
    check: async (file, options = {}) => {
      const identity = options.ours ? await ownerOf(file.path) : undefined;
      const args = ['-f', file.format, '--output=json', input];
      const readable = [{ from: file.path, to: input }];
      // 2: corruptions, 3: leaks; the caller judges the figures.
      const done = await call('check', { ...options, args, readable, codes: [0, 2, 3], ...only({ identity }) });
      return parseCheck(done.stdout);
    },
    measure: async (file, options = {}) => {
      const args = ['-f', file.format, '-O', 'qcow2', '--output=json', input];
      const done = await call('measure', { ...options, args, readable: [{ from: file.path, to: input }] });
      return { requiredBytes: figure(parseJson(done.stdout), 'required') };
    },
    convert: async (file, target, options) => {
      const args = ['-p', '-f', file.format, '-O', 'qcow2', '-o', 'compat=1.1', input, output];
      const timeoutMs = options.timeoutMs ?? 3_600_000;
      const onOutput = progressReader(options.onProgress);
      const readable = [{ from: file.path, to: input }];
      await makeFile(target, async (writable) => {
        await call('convert', { ...options, args, readable, writable, timeoutMs, onOutput });
      });
    },
    resize: async (file, virtualBytes, options = {}) => {
      const identity = await ownerOf(file.path);
      const readable = file.backing.map((path) => ({ from: path, to: path }));
      const args = ['-q', '-f', file.format, output, String(virtualBytes)];
      const writable = [{ from: file.path, to: output }];
      // The raw format may become as long as it is asked to be; the tables of qcow2 stay below.
      await call('resize', { ...options, args, readable, writable, maxBytes: 2 * virtualBytes + GiB, identity });
    },
  };
}

interface Call extends Partial<Pick<SandboxJob, 'readable' | 'writable' | 'onOutput' | 'identity'>>, CallOptions {
  readonly args: readonly string[];
  readonly maxBytes?: number;
  /** Exit codes that are answers. */
  readonly codes?: readonly number[];
}

function only<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

async function ownerOf(path: string): Promise<{ uid: number; gid: number }> {
  const { uid, gid } = await stat(path);
  return { uid, gid };
}

function lastLine(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return (lines.at(-1) ?? 'no reason given').replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 300);
}

function failure(verb: string, done: SandboxResult, job: Call, timeoutMs: number): VirgaError {
  const what = `qemu-img ${verb}`;
  const said = lastLine(done.stderr);
  if (done.end === 'aborted') return new VirgaError('cancelled', { detail: `${what} was ended` });
  if (done.end === 'timeout' || done.end === 'cpu')
    return new VirgaError('timeout', { what, seconds: timeoutMs / 1000 });
  if (/No space left on device|Disk quota exceeded/.test(done.stderr))
    return new VirgaError('disk_full', { path: dirname(job.writable?.[0]?.from ?? '/'), detail: said });
  const how = 'Make it anew: qemu-img convert -O qcow2 IMAGE NEW, then look with qemu-img check NEW.';
  const tooLong = done.end === 'file-size' || done.stderr.includes('File too large');
  const detail = tooLong
    ? `${what} wanted to write more than ${job.maxBytes} bytes`
    : done.end === 'exit'
      ? `${what} says: ${said}`
      : `${what} was ended (${done.end}): ${said}`;
  return new VirgaError('image_refused', { detail, how });
}

/** Whole and synced under its name, or not there: the tool writes into a file that we made and hold, so it cannot put a link there. */
async function makeFile(
  target: string,
  write: (writable: readonly { readonly from: string; readonly to: string }[]) => Promise<void>,
): Promise<void> {
  const temporary = `${target}.${randomBytes(6).toString('hex')}.tmp`;
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    const handle = await open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      const root = process.geteuid?.() === 0;
      if (root) await handle.chown(nobody, nobody);
      await write([{ from: temporary, to: output }]);
      if (root) await handle.chown(0, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const folder = await open(dirname(target), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Reads `    (12.34/100%)\r`, as `-p` prints it. */
function progressReader(onProgress: ((fraction: number) => void) | undefined): (text: string) => void {
  let tail = '';
  let last = -1;
  return (text) => {
    const all = tail + text;
    tail = all.slice(-32);
    const percent = [...all.matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1)?.[1];
    const fraction = Math.min(1, Number(percent ?? 0) / 100);
    if (percent === undefined || fraction <= last) return;
    last = fraction;
    onProgress?.(fraction);
  };
}

type Json = Readonly<Record<string, unknown>>;

function parseJson(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Json;
  } catch (error) {
    throw notUnderstood(error);
  }
  throw notUnderstood(undefined);
}

function notUnderstood(cause: unknown): VirgaError {
  const values = {
    detail: 'qemu-img gave no figures for it',
    how: 'Look at it with qemu-img info and qemu-img check.',
  };
  return new VirgaError('image_refused', values, { cause });
}

function figure(json: Json, name: string, fallback?: number): number {
  const value = json[name] ?? fallback;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw notUnderstood(undefined);
  return value;
}

function parseCheck(text: string): CheckReport {
  const json = parseJson(text);
  return {
    // Figures that are zero are left out, but this one.
    checkErrors: figure(json, 'check-errors'),
    corruptions: figure(json, 'corruptions', 0),
    leaks: figure(json, 'leaks', 0),
    allocatedClusters: figure(json, 'allocated-clusters', 0),
    compressedClusters: figure(json, 'compressed-clusters', 0),
  };
}

function parseInfo(text: string): DiskInfo {
  const json = parseJson(text);
  const backing = json['backing-filename'];
  const snapshots = Array.isArray(json['snapshots']) ? (json['snapshots'] as readonly Json[]) : [];
  return {
    virtualBytes: figure(json, 'virtual-size'),
    actualBytes: figure(json, 'actual-size', 0),
    ...(typeof backing === 'string' ? { backingPath: backing } : {}),
    encrypted: json['encrypted'] === true,
    snapshots: snapshots.flatMap(({ name }) => (typeof name === 'string' ? [name] : [])),
  };
}
