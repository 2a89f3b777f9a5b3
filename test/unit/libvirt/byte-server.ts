/** A server that speaks bytes, for what no real daemon does: hostile, broken and oddly timed frames. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { FrameParser, type Frame } from '../../../src/libvirt/frame.ts';
import { frame, hex, word } from './bytes.ts';

const MAIN = '20008086';

/** The server's side of one connection. */
export interface Peer {
  readonly socket: Socket;
  /** The next frame from the client. Rejects when the client is gone. */
  next(): Promise<Frame>;
  send(bytes: Buffer): void;
  /** Answers a call of the main program. */
  reply(call: Frame, bodyHex?: string): void;
  /** Obeys authList, connectSupportsFeature and connectOpen. */
  handshake(): Promise<void>;
}

/** Starts a server; each connection is handed to `serve`. Everything ends with the test. */
export async function byteServer(t: TestContext, serve: (peer: Peer) => Promise<void>): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'virga-bytes-'));
  const path = join(dir, 's');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    // The client hanging up is the end of most stories here.
    socket.on('error', () => undefined);
    serve(peerOf(socket)).catch(() => socket.destroy());
  });
  server.listen(path);
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await rm(dir, { recursive: true });
  });
  return path;
}

function peerOf(socket: Socket): Peer {
  const parser = new FrameParser();
  const frames: Frame[] = [];
  let wake = Promise.withResolvers<void>();
  socket.on('data', (chunk: Buffer) => {
    frames.push(...parser.push(chunk));
    wake.resolve();
  });
  socket.on('close', () => wake.reject(new Error('the client is gone')));
  wake.promise.catch(() => undefined);
  const next = async (): Promise<Frame> => {
    for (;;) {
      const ready = frames.shift();
      if (ready !== undefined) return ready;
      await wake.promise;
      if (socket.destroyed) throw new Error('the client is gone');
      wake = Promise.withResolvers<void>();
      wake.promise.catch(() => undefined);
    }
  };
  const send = (bytes: Buffer) => void socket.write(bytes);
  const reply = (call: Frame, bodyHex = '') => {
    send(frame(`${MAIN} 00000001 ${word(call.procedure)} 00000001 ${word(call.serial)} 00000000`, hex(bodyHex)));
  };
  const handshake = async () => {
    reply(await next(), '00000001 00000000'); // authList: one type, none
    const second = await next();
    if (second.procedure === 60) {
      reply(second, '00000001');
      reply(await next());
    } else reply(second);
  };
  return { socket, next, send, reply, handshake };
}
