/** Writes a handler's reply. */
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { etag } from '../../api/present.ts';
import type { Operation, Route } from '../../api/routes.ts';
import type { EventChannel, Reply } from './call.ts';
import { documentBytes } from './lists.ts';

const json = 'application/json; charset=utf-8';
/** A client that takes nothing for so long is cut. */
const stalledMs = 60_000;

export async function answer(
  reply: FastifyReply,
  route: Route,
  result: Reply<Operation>,
  signal: AbortSignal,
): Promise<FastifyReply> {
  void reply.code(route.status).header('x-content-type-options', 'nosniff').header('cache-control', 'no-cache');
  if ('headers' in result && result.headers) void reply.headers(result.headers);
  if ('follow' in result) return followed(reply, result.follow, signal);
  if ('nothing' in result) return reply.send();
  if ('resource' in result)
    return reply.header('etag', etag(result.resource)).type(json).send(documentBytes(result.resource));
  if ('pieces' in result) return reply.type(json).send(Readable.from(result.pieces));
  if ('text' in result) return reply.type(result.type).send(result.text);
  if ('stream' in result)
    return reply
      .code(result.status ?? route.status)
      .type(result.type)
      .send(result.stream);
  return reply.type(json).send(JSON.stringify(result.value));
}

async function followed(
  reply: FastifyReply,
  push: (channel: EventChannel) => Promise<void>,
  signal: AbortSignal,
): Promise<FastifyReply> {
  const { raw } = reply;
  reply.hijack();
  raw.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
    'x-content-type-options': 'nosniff',
  });
  raw.flushHeaders();
  try {
    await push({ signal, write: async (text) => write(raw, text, signal) });
    raw.end();
  } catch {
    // The client is gone or takes nothing: it comes again with its Last-Event-ID.
    raw.destroy();
  }
  return reply;
}

async function write(raw: FastifyReply['raw'], text: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted || raw.destroyed) throw new Error('the client is gone');
  if (raw.write(text)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (done: () => void) => (): void => {
      clearTimeout(timer);
      raw.off('drain', drained);
      signal.removeEventListener('abort', aborted);
      done();
    };
    const drained = settle(resolve);
    const aborted = settle(() => reject(new Error('the client is gone')));
    const timer = setTimeout(
      settle(() => reject(new Error('the client takes nothing'))),
      stalledMs,
    );
    raw.once('drain', drained);
    signal.addEventListener('abort', aborted, { once: true });
  });
}
