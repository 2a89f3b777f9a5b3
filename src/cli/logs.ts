/** A guest's serial output, read and followed. */
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { Call } from './call.ts';
import { bytesOf, opened } from './console.ts';
import { Interrupted, pause, writeAll } from './io.ts';

/** The newest `size` bytes. */
export async function readLog(client: Client, guest: string, size: number, signal: AbortSignal): Promise<Buffer> {
  const answer = await client.raw('guest.log', { params: { guest }, query: { bytes: size }, signal });
  return Buffer.from(await answer.body.arrayBuffer());
}

/** Length of the longest end of `a` that `b` begins with. */
export function overlap(a: Buffer, b: Buffer): number {
  for (let length = Math.min(a.length, b.length); length > 0; length -= 1)
    if (a.subarray(a.length - length).equals(b.subarray(0, length))) return length;
  return 0;
}

/** Of `log`, what came after `printed` (the end of what was printed before); all of it where the two do not meet. */
export function after(printed: Buffer, log: Buffer): Buffer {
  if (printed.length === 0) return log;
  const at = log.lastIndexOf(printed);
  if (at >= 0) return log.subarray(at + printed.length);
  return log.subarray(overlap(printed, log));
}

/** Where in an escape sequence (ECMA-48) a byte stands. */
type Place = 'text' | 'escape' | 'csi' | 'osc';

const escape = 0x1b;
const bell = 0x07;
const newline = 0x0a;
const tab = 0x09;

/** The place after `byte`; an operating system command that never ends is over at the end of the line. */
function next(place: Place, byte: number): Place {
  if (byte === escape) return 'escape';
  if (place === 'escape') return byte === 0x5b ? 'csi' : byte === 0x5d ? 'osc' : 'text';
  if (place === 'csi') return byte >= 0x40 && byte <= 0x7e ? 'text' : 'csi';
  if (place === 'osc') return byte === bell || byte === newline ? 'text' : 'osc';
  return 'text';
}

/** Without escape sequences, C0 controls but tab and newline, DEL, and C1 controls in UTF-8. */
function withoutControls(bytes: Buffer): Buffer {
  const kept: number[] = [];
  let place: Place = 'text';
  for (let index = 0; index < bytes.length; index += 1) {
    const byte = bytes[index] ?? 0;
    const before = place;
    place = next(place, byte);
    if (before !== 'text' || place !== 'text') continue;
    if ((byte < 0x20 && byte !== newline && byte !== tab) || byte === 0x7f) continue;
    const following = bytes[index + 1] ?? 0;
    if (byte === 0xc2 && following >= 0x80 && following <= 0x9f) index += 1;
    else kept.push(byte);
  }
  return Buffer.from(kept);
}

/**
 * What a guest writes may reprogram the terminal of who reads it: on a terminal its control sequences are left out,
 * unless the person asks for them. Files and pipes get the bytes as they are.
 */
export function forScreen(call: Pick<Call, 'io'>, bytes: Buffer, raw: boolean): Buffer {
  if (raw || call.io.stdout.isTTY !== true) return bytes;
  return withoutControls(bytes);
}

/** Enough to find the place again after a break. */
const remembered = 4096;
const mostHeld = 8 * 1024 * 1024;

/** Prints the log and goes on as it grows, until the person stops it; a break is taken up where it was. */
export async function followLog(call: Call, guest: string, size: number, raw = false): Promise<void> {
  let printed: Buffer = Buffer.alloc(0);
  const print = async (bytes: Buffer): Promise<void> => {
    if (bytes.length === 0) return;
    printed = Buffer.concat([printed, bytes]).subarray(-remembered);
    await writeAll(call.io.stdout, forScreen(call, bytes, raw));
  };
  let delay = 200;
  let first = true;
  for (;;) {
    try {
      const want = first ? size : 1024 * 1024;
      await session(call, guest, want, () => printed, print);
      delay = 200;
    } catch (error) {
      if (call.io.interrupted.aborted) throw new Interrupted();
      const passing =
        error instanceof VirgaError &&
        ['site_unreachable', 'host_unreachable', 'not_leading', 'not_allowed', 'timeout'].includes(error.code);
      if (first || !passing) throw error;
    }
    first = false;
    await pause(delay, call.io.interrupted);
    delay = Math.min(delay * 2, 5000);
  }
}

/**
 * One connection. It is opened before the log is read, so that nothing falls between the two; what both brought is
 * printed once.
 */
async function session(
  call: Call,
  guest: string,
  size: number,
  printed: () => Buffer,
  print: (bytes: Buffer) => Promise<void>,
): Promise<void> {
  const socket = call.client.websocket('guest.follow', { guest });
  const stop = (): void => socket.terminate();
  call.io.interrupted.addEventListener('abort', stop, { once: true });
  let held: Buffer = Buffer.alloc(0);
  let live = false;
  let chain: Promise<void> = Promise.resolve();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('message', (data) => {
    const bytes = Buffer.from(bytesOf(data));
    if (!live) {
      held = Buffer.concat([held, bytes]).subarray(-mostHeld);
      return;
    }
    socket.pause();
    chain = chain.then(() => print(bytes)).then(() => socket.resume());
  });
  try {
    await opened(socket, call.io.interrupted);
    const log = await readLog(call.client, guest, size, call.io.interrupted);
    await print(after(printed(), log));
    const fresh = held.subarray(overlap(log, held));
    live = true;
    await print(fresh);
    await closed;
    await chain;
    if (call.io.interrupted.aborted) throw new Interrupted();
  } finally {
    call.io.interrupted.removeEventListener('abort', stop);
    socket.terminate();
  }
}
