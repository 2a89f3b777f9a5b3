/** From given bytes to a stored copy. Every step distrusts the one before. */
import { chmod, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import { headBytes, inspectImage, tailBytes, type ImageApproval } from '../../core/images/inspect.ts';
import type { ImageFormat } from '../../core/model/image.ts';
import { demandSpace, syncFolder } from '../../effects/disk.ts';
import { digestOf, openPlain, readAt } from './disk.ts';
import type { FinishedImage, FinishStep, ImageTool } from './types.ts';

const MiB = 1024 ** 2;
/** A copy may be this many times larger than what was given (a compressed image unfolds), and `unfoldBytes` on top. */
const unfoldFactor = 64;
const unfoldBytes = 1024 * MiB;
const checkMs = 10 * 60_000;
const convertMs = 4 * 3_600_000;

export interface FinishJob {
  readonly name: string;
  readonly sizeBytes: number;
  readonly format: ImageFormat;
  readonly expectedSha512?: string;
  /** The running digest, if it has seen all bytes. */
  readonly runningSha512?: string;
  /** The given bytes. */
  readonly given: string;
  /** Where the copy is made; removed first. */
  readonly work: string;
  readonly maxVirtualBytes: number;
  readonly reserveBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (step: FinishStep, fraction: number) => void;
}

/** What was made, still at `job.work`. */
export async function makeCopy(job: FinishJob, tool: ImageTool): Promise<FinishedImage> {
  const { handle, stats } = await openPlain(job.given);
  let approval: ImageApproval;
  let givenSha512: string;
  try {
    if (stats.size !== job.sizeBytes)
      throw new VirgaError('upload_size', { name: job.name, expected: job.sizeBytes, given: stats.size });
    givenSha512 = job.runningSha512 ?? (await digest(handle, job, 'hash', 0, 0.15, job.sizeBytes));
    demandDigest(job, givenSha512);
    approval = await inspect(handle, job.format, stats.size, job.maxVirtualBytes);
  } finally {
    await handle.close();
  }
  await convert(job, approval, tool);
  const copy = await verifyCopy(job, approval);
  return { givenSha512, stored: { ...copy, format: 'qcow2' }, virtualBytes: approval.virtualBytes };
}

/** Puts the copy under its digest; one that is there already has the same bytes, or is damaged and replaced. */
export async function storeCopy(work: string, stored: string): Promise<void> {
  await chmod(work, 0o444);
  await rename(work, stored);
  await syncFolder(dirname(stored));
}

export function storedPath(folder: string, sha512: string): string {
  return join(folder, 'stored', `${sha512}.qcow2`);
}

function demandDigest(job: FinishJob, actual: string): void {
  const expected = job.expectedSha512?.toLowerCase();
  if (expected === undefined || expected === actual) return;
  throw new VirgaError('image_digest', { what: `image "${job.name}"`, actual, expected });
}

async function digest(
  handle: FileHandle,
  job: FinishJob,
  step: FinishStep,
  from: number,
  to: number,
  size: number,
): Promise<string> {
  const onBytes = (done: number): void => job.onProgress(step, from + (to - from) * Math.min(1, done / size));
  return await digestOf(handle, job.signal, onBytes);
}

/** @throws VirgaError `image_refused`, with the verdict's words */
async function inspect(
  handle: FileHandle,
  format: ImageFormat,
  sizeBytes: number,
  maxVirtualBytes: number,
): Promise<ImageApproval> {
  const head = await readAt(handle, 0, Math.min(headBytes, sizeBytes));
  const tail = await readAt(handle, Math.max(0, sizeBytes - tailBytes), Math.min(tailBytes, sizeBytes));
  const verdict = inspectImage(format, { sizeBytes, head, tail }, { maxVirtualBytes });
  if (!verdict.ok) throw new VirgaError('image_refused', { detail: verdict.detail, how: verdict.how });
  return verdict;
}

async function convert(job: FinishJob, approval: ImageApproval, tool: ImageTool): Promise<void> {
  const file = { path: job.given, format: job.format };
  const { signal } = job;
  job.onProgress('check', 0.15);
  if (approval.clusterBytes !== undefined) await checkTables(job, approval.clusterBytes, tool);
  const { requiredBytes } = await tool.measure(file, { signal, timeoutMs: checkMs });
  const most = unfoldFactor * job.sizeBytes + unfoldBytes;
  if (requiredBytes > most)
    throw refused(`it would unfold from ${job.sizeBytes} to ${requiredBytes} bytes, more than ${most}`);
  await demandSpace(dirname(job.work), requiredBytes, job.reserveBytes);
  job.onProgress('convert', 0.2);
  await rm(job.work, { force: true });
  await tool.convert(file, job.work, {
    signal,
    timeoutMs: convertMs,
    // Measured before; the slack is for tables that are made as they are needed.
    maxBytes: Math.ceil(requiredBytes * 1.02) + 16 * MiB,
    onProgress: (fraction) => job.onProgress('convert', 0.2 + 0.6 * fraction),
  });
}

/**
 * Errors are never repaired here: what the tables mean would be a guess. Leaks are harmless, they stay behind in the conversion. Guest clusters
 * that share one cluster of the file can agree with all counters and still unfold a small file into a large one.
 */
async function checkTables(job: FinishJob, clusterBytes: number, tool: ImageTool): Promise<void> {
  const file = { path: job.given, format: job.format };
  const found = await tool.check(file, { signal: job.signal, timeoutMs: checkMs });
  const errors = found.corruptions + found.checkErrors;
  if (errors > 0) throw refused(`qemu-img check finds ${errors} errors in its tables`);
  const plain = found.allocatedClusters - found.compressedClusters;
  // Together with the last, partial one.
  const clusters = Math.ceil(job.sizeBytes / clusterBytes);
  if (plain > clusters) throw refused(`${plain} clusters of its disk share ${clusters} clusters of its file`);
}

function refused(detail: string): VirgaError {
  const how = 'Make it anew on your machine: qemu-img convert -O qcow2 IMAGE NEW, and look with qemu-img check NEW.';
  return new VirgaError('image_refused', { detail, how });
}

/** The tool read hostile bytes: what it wrote is judged like an upload. */
async function verifyCopy(job: FinishJob, approval: ImageApproval): Promise<{ sha512: string; sizeBytes: number }> {
  const { handle, stats } = await openPlain(job.work);
  try {
    job.onProgress('verify', 0.8);
    const copy = await inspect(handle, 'qcow2', stats.size, job.maxVirtualBytes + 512);
    // Virtual sizes are whole sectors; old images may not be.
    if (Math.ceil(approval.virtualBytes / 512) * 512 !== copy.virtualBytes)
      throw refused(`its copy has a disk of ${copy.virtualBytes} bytes instead of ${approval.virtualBytes}`);
    const sha512 = await digest(handle, job, 'verify', 0.8, 0.99, stats.size);
    return { sha512, sizeBytes: stats.size };
  } finally {
    await handle.close();
  }
}

/** Size of a stored copy; undefined when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const stats = await stat(path);
    return stats.isFile() ? stats.size : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
