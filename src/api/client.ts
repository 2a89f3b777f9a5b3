/**
 * The client of the API, typed by the route table. Used by the command line, the web page's tests and the testbed.
 * Speaks over the controller's unix socket (peer uid) or over TLS with a token and the site's pinned authority.
 */
import { readFileSync } from 'node:fs';
import { Agent, request, type Dispatcher } from 'undici';
import WebSocket from 'ws';
import { errorFromBody, VirgaError } from './errors.ts';
import { routes, type Answer, type Body, type Operation, type Params, type Query, type Route } from './routes.ts';
import { readEvents, type ServerEvent } from './sse.ts';

export type Where =
  | { readonly socket: string }
  /** `ca`: PEM of the site's authority. Without it the system's authorities are used. */
  | {
      readonly url: string;
      readonly token: string;
      readonly ca?: string;
      /** Other controllers of the same site: asked where that one does not answer or does not lead. */
      readonly others?: readonly string[];
    };

type NeedsParams<O extends Operation> = [keyof Params<O>] extends [never] ? false : true;
export type CallOptions<O extends Operation> = {
  readonly ifMatch?: number;
  readonly idempotencyKey?: string;
  readonly reason?: string;
  readonly signal?: AbortSignal;
  /** Milliseconds until headers; default 30,000. */
  readonly timeoutMs?: number;
} & (NeedsParams<O> extends true ? { readonly params: Params<O> } : { readonly params?: undefined }) &
  (Query<O> extends undefined ? { readonly query?: undefined } : { readonly query?: Query<O> }) &
  (Body<O> extends undefined ? { readonly body?: undefined } : { readonly body: Body<O> });

interface LooseOptions {
  readonly params?: Readonly<Record<string, string>> | undefined;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>> | undefined;
  readonly body?: unknown;
  readonly ifMatch?: number;
  readonly idempotencyKey?: string;
  readonly reason?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly bytes?: AsyncIterable<Uint8Array> | Uint8Array;
}

/** Options may be left out whole where none is required. */
type Rest<O extends Operation> =
  NeedsParams<O> extends true
    ? [options: CallOptions<O>]
    : Body<O> extends undefined
      ? [options?: CallOptions<O>]
      : [options: CallOptions<O>];

export interface Client {
  readonly where: Where;
  call<O extends Operation>(operation: O, ...rest: Rest<O>): Promise<Answer<O>>;
  /** For operations that answer with bytes or text. The caller reads or destroys the body. */
  raw(operation: Operation, options?: LooseOptions): Promise<Dispatcher.ResponseData>;
  /** Server-sent events; ends with the connection. */
  follow(
    operation: 'site.watch' | 'site.follow',
    options?: LooseOptions & { readonly lastEventId?: string },
  ): AsyncIterable<ServerEvent>;
  websocket(operation: 'guest.console' | 'guest.follow', params: Readonly<Record<string, string>>): WebSocket;
  close(): Promise<void>;
}

function pathOf(operation: Operation, options: LooseOptions): string {
  const path = routes[operation].path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(options.params?.[name] ?? ''),
  );
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(options.query ?? {}))
    if (value !== undefined) search.set(key, String(value));
  const query = search.toString();
  return query === '' ? path : `${path}?${query}`;
}

function headersOf(where: Where, options: LooseOptions): Record<string, string> {
  return {
    ...options.headers,
    ...('token' in where ? { authorization: `Bearer ${where.token}` } : {}),
    ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(options.bytes === undefined ? {} : { 'content-type': 'application/octet-stream' }),
    ...(options.ifMatch === undefined ? {} : { 'if-match': `"${options.ifMatch}"` }),
    ...(options.idempotencyKey === undefined ? {} : { 'idempotency-key': options.idempotencyKey }),
    ...(options.reason === undefined ? {} : { 'virga-reason': encodeURIComponent(options.reason) }),
  };
}

const placeOf = (where: Where): string => ('socket' in where ? where.socket : where.url);

function unreachable(where: Where, error: unknown): VirgaError {
  const cause = error as NodeJS.ErrnoException;
  const details: Record<string, string> = {
    ENOENT: 'no such socket',
    ECONNREFUSED: 'nobody listens there',
    EACCES: 'permission denied (be root, or in the group virga)',
    DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is not of the site you named',
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is not of the site you named',
    SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is not of the site you named',
  };
  const detail = details[cause.code ?? ''] ?? cause.message;
  return new VirgaError('site_unreachable', { where: placeOf(where), detail }, { cause: error });
}

async function refuse(answer: Dispatcher.ResponseData): Promise<never> {
  const text = await answer.body.text();
  // The answer to HEAD has no body; the error stands in a header.
  const header = answer.headers['virga-error'];
  let body: unknown;
  try {
    body = JSON.parse(typeof header === 'string' ? decodeURIComponent(header) : text);
  } catch {
    body = undefined;
  }
  throw (
    errorFromBody(body) ??
    new VirgaError('invalid_request', { detail: `the site answered ${answer.statusCode}: ${text.slice(0, 200)}` })
  );
}

/** Failures to connect: nothing was sent, so another controller may be asked the same. */
const notSent = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** The addresses of a site's controllers, and the one that answers for it. */
class Origins {
  readonly #where: Where;
  readonly #all: readonly string[];
  present: string;

  constructor(where: Where) {
    this.#where = where;
    this.#all =
      'socket' in where
        ? ['http://virga']
        : [where.url, ...(where.others ?? [])].map((each) => each.replace(/\/+$/, ''));
    this.present = this.#all[0] ?? '';
  }

  /** Each controller once, the present one first. */
  get attempts(): number {
    return this.#all.length + 1;
  }

  /** True when the same question may be put to another controller; that one is the present one then. */
  moveOn(error: unknown, tried: ReadonlySet<string>): boolean {
    if ('socket' in this.#where || !(error instanceof VirgaError)) return false;
    const { code, values, cause } = error;
    const unsent = code === 'site_unreachable' && notSent.has((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
    if (!unsent && code !== 'standby' && code !== 'not_leading') return false;
    const named = String(values['leader'] ?? '').replace(/\/+$/, '');
    // The token goes only to who was named by the person, or is of the pinned authority.
    const believed = named.startsWith('https://') && (this.#where.ca !== undefined || this.#all.includes(named));
    const next = [...(believed ? [named] : []), ...this.#all].find((each) => !tried.has(each));
    if (next !== undefined) this.present = next;
    return next !== undefined;
  }
}

/** Opens a client; nothing is sent before the first call. */
export function openClient(where: Where): Client {
  const dispatcher =
    'socket' in where
      ? new Agent({ connect: { socketPath: where.socket, timeout: 5_000 }, bodyTimeout: 0 })
      : new Agent({ connect: { timeout: 5_000, ...(where.ca ? { ca: where.ca } : {}) }, bodyTimeout: 0 });
  const origins = new Origins(where);

  const once = async (operation: Operation, options: LooseOptions): Promise<Dispatcher.ResponseData> => {
    let answer: Dispatcher.ResponseData;
    try {
      answer = await request(origins.present + pathOf(operation, options), {
        method: routes[operation].method,
        dispatcher,
        headers: headersOf(where, options),
        headersTimeout: options.timeoutMs ?? 30_000,
        ...(options.signal ? { signal: options.signal } : {}),
        ...(options.bytes !== undefined
          ? { body: options.bytes as Uint8Array }
          : options.body !== undefined
            ? { body: JSON.stringify(options.body) }
            : {}),
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw unreachable('socket' in where ? where : { ...where, url: origins.present }, error);
    }
    if (answer.statusCode >= 400) return refuse(answer);
    return answer;
  };

  const raw = async (operation: Operation, options: LooseOptions = {}): Promise<Dispatcher.ResponseData> => {
    const tried = new Set<string>();
    for (;;) {
      tried.add(origins.present);
      try {
        return await once(operation, options);
      } catch (error) {
        // A stream that was begun cannot be sent again.
        const again = options.bytes === undefined || options.bytes instanceof Uint8Array;
        if (!again || options.signal?.aborted === true || tried.size >= origins.attempts) throw error;
        if (!origins.moveOn(error, tried)) throw error;
      }
    }
  };

  return {
    where,
    raw,
    async call<O extends Operation>(operation: O, ...rest: Rest<O>): Promise<Answer<O>> {
      const answer = await raw(operation, rest[0]);
      const definition: Route = routes[operation];
      if (!definition.answer) {
        await answer.body.dump();
        return undefined as Answer<O>;
      }
      return (await answer.body.json()) as Answer<O>;
    },
    async *follow(operation, options = {}) {
      const headers = options.lastEventId === undefined ? {} : { 'last-event-id': options.lastEventId };
      const answer = await raw(operation, { ...options, headers });
      yield* readEvents(answer.body);
    },
    websocket(operation, params) {
      const path = pathOf(operation, { params });
      return 'socket' in where
        ? new WebSocket(`ws+unix:${where.socket}:${path}`, { handshakeTimeout: 10_000 })
        : new WebSocket(origins.present.replace(/^http/, 'ws') + path, {
            handshakeTimeout: 10_000,
            headers: { authorization: `Bearer ${where.token}` },
            ...(where.ca ? { ca: where.ca } : {}),
          });
    },
    async close() {
      await dispatcher.destroy();
    },
  };
}

/** Reads a PEM file for `Where.ca`. */
export const readAuthority = (path: string): string => readFileSync(path, 'utf8');
