/**
 * A site made from the route table, for tests of the command line's own behaviour: routes are found by the table, and
 * what it answers must fit the table's schemas. A terminal that is none stands for the person.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { TestContext } from 'node:test';
import { Value } from 'typebox/value';
import { VirgaError } from '../../../src/api/errors.ts';
import { routes, type Operation, type Route } from '../../../src/api/routes.ts';
import { runCli } from '../../../src/cli/main.ts';

export interface Asked {
  readonly operation: Operation;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingMessage['headers'];
  /** Parsed JSON, or the bytes. */
  readonly body: unknown;
}
/** Gives the answer; throws a VirgaError to refuse; `break` cuts the connection; a function writes it by itself. */
export type Handler = (asked: Asked) => unknown;
export const cut = Symbol('cut');
export type Raw = (response: ServerResponse) => void;

function find(method: string, path: string): { operation: Operation; params: Record<string, string> } | undefined {
  for (const [operation, route] of Object.entries(routes) as [Operation, Route][]) {
    if (route.method !== method) continue;
    const pattern = new RegExp(`^${route.path.replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`);
    const match = pattern.exec(path);
    if (!match) continue;
    const params = Object.fromEntries(
      Object.entries(match.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]),
    );
    return { operation, params };
  }
  return undefined;
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  return request.headers['content-type'] === 'application/json' ? JSON.parse(bytes.toString('utf8')) : bytes;
}

export class StandIn {
  readonly asked: Asked[] = [];
  readonly folder: string;
  readonly #handlers: Partial<Record<Operation, Handler>>;
  readonly #server: Server;

  constructor(handlers: Partial<Record<Operation, Handler>>) {
    this.#handlers = handlers;
    this.folder = mkdtempSync(join(tmpdir(), 'virga-cli-'));
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        response.statusCode = 500;
        response.end(String(error));
      });
    });
  }

  get socket(): string {
    return join(this.folder, 's.sock');
  }

  static async start(t: TestContext, handlers: Partial<Record<Operation, Handler>>): Promise<StandIn> {
    const site = new StandIn(handlers);
    await new Promise<void>((resolve) => site.#server.listen(site.socket, resolve));
    t.after(async () => {
      site.#server.closeAllConnections();
      await new Promise((resolve) => site.#server.close(resolve));
      rmSync(site.folder, { recursive: true, force: true });
    });
    return site;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://virga');
    const found = find(request.method ?? '', url.pathname);
    if (!found)
      return refuse(response, new VirgaError('route_not_found', { method: request.method ?? '', path: url.pathname }));
    const route: Route = routes[found.operation];
    const asked = {
      ...found,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
      body: await bodyOf(request),
    };
    this.asked.push(asked);
    if (route.body && !Value.Check(route.body, asked.body))
      return refuse(
        response,
        new VirgaError('invalid_request', { detail: `the body does not fit: ${JSON.stringify(asked.body)}` }),
      );
    let answer: unknown;
    try {
      answer = await this.#handlers[found.operation]?.(asked);
    } catch (error) {
      if (error instanceof VirgaError) return refuse(response, error);
      throw error;
    }
    if (answer === cut) return void request.socket.destroy();
    if (typeof answer === 'function') return (answer as Raw)(response);
    if (route.answer && !Value.Check(route.answer, answer))
      throw new Error(
        `the test answers ${found.operation} with what does not fit: ${JSON.stringify(Value.Errors(route.answer, answer).slice(0, 3))}`,
      );
    response.writeHead(route.status, { 'content-type': 'application/json' });
    response.end(answer === undefined ? undefined : JSON.stringify(answer));
  }
}

function refuse(response: ServerResponse, error: VirgaError): void {
  response.writeHead(error.status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(error.toBody()));
}

export const page = <T>(items: readonly T[], revision = 7) => ({ items, revision });

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Columns; then output counts as a terminal. */
  readonly terminal?: number;
  readonly signal?: AbortSignal;
  /** What a person types when asked so, in this order; then input counts as a terminal. */
  readonly answers?: readonly (readonly [question: RegExp, answer: string])[];
  /** Hears what was printed so far. */
  readonly heard?: (out: string) => void;
}

/** Runs the command line in this process against a socket. */
export async function cli(socket: string | undefined, argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { answers } = options;
  const stdin = Object.assign(new PassThrough(), answers ? { isTTY: true } : {});
  if (!answers) stdin.end(options.input ?? '');
  const screen = (hear?: (text: string) => void) => {
    const stream = new PassThrough();
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      hear?.(Buffer.concat(chunks).toString('utf8'));
    });
    const isTTY = options.terminal !== undefined;
    return {
      stream: Object.assign(stream, { isTTY, columns: options.terminal ?? 80, rows: 24 }),
      text: () => Buffer.concat(chunks).toString('utf8'),
    };
  };
  const out = screen(options.heard);
  const waiting = [...(answers ?? [])];
  let heard = 0;
  const err = screen((text) => {
    const [next] = waiting;
    if (!next?.[0].test(text.slice(heard))) return;
    heard = text.length;
    waiting.shift();
    stdin.write(`${next[1]}\n`);
  });
  const code = await runCli(argv, [], {
    stdin,
    stdout: out.stream,
    stderr: err.stream,
    // Neither contexts nor keepers of this machine.
    env: {
      ...(socket === undefined ? {} : { VIRGA_SOCKET: socket }),
      HOME: '/nonexistent',
      VIRGA_KEEPERS: '/nonexistent',
      ...options.env,
    },
    interrupted: options.signal ?? new AbortController().signal,
  });
  // What was written is handed on in the next turn of the streams.
  await new Promise((resolve) => setImmediate(resolve));
  return { code, out: out.text(), err: err.text() };
}
