/** What a handler gets and gives: one typed record per operation, so that the compiler demands each. */
import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import type { Answer, Body, Operation, Params, Query } from '../../api/routes.ts';
import type { Actor } from '../../core/model/access.ts';
import type { AnyResource, RequestContext } from '../../core/model/snapshot.ts';
import type { Repeat } from '../state.ts';

export interface Call<O extends Operation> {
  readonly params: Params<O>;
  readonly query: Query<O>;
  readonly body: Body<O>;
  readonly actor: Actor;
  /** For the pure requests: actor, clock and ids. */
  readonly context: RequestContext;
  /** Revision of If-Match; the handler refuses when the object has moved on. */
  readonly ifMatch: number | undefined;
  readonly repeat: Repeat | undefined;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  readonly headers: FastifyRequest['headers'];
  /** Bytes of an upload. */
  readonly bytes: Readable;
  /** Answers over the raw response: server-sent events. */
  readonly raw: FastifyRequest['raw'];
}

/** The answer in one of its forms. */
export type Reply<O extends Operation> =
  | { readonly value: Answer<O>; readonly headers?: Headers }
  /** One stored object, with its ETag; its text is made once. */
  | { readonly resource: AnyResource; readonly headers?: Headers }
  /** JSON in pieces. */
  | { readonly pieces: Iterable<Buffer>; readonly headers?: Headers }
  | { readonly text: string; readonly type: string; readonly headers?: Headers }
  | { readonly stream: Readable; readonly type: string; readonly status?: number; readonly headers?: Headers }
  /** Server-sent events, pushed until the client is gone. */
  | { readonly follow: (channel: EventChannel) => Promise<void> }
  | { readonly nothing: true; readonly headers?: Headers };

export type Headers = Readonly<Record<string, string>>;
export const nothing = { nothing: true } as const;

/** The writing side of server-sent events. Resolves when the client has room again. */
export interface EventChannel {
  readonly signal: AbortSignal;
  /** @throws when the client takes nothing for a minute */
  write(text: string): Promise<void>;
}

export type Handler<O extends Operation> = (call: Call<O>) => Promise<Reply<O>> | Reply<O>;
/** Operations that are answered over an upgraded connection have their handlers in `relay.ts`. */
export type UpgradeOperation = 'guest.console' | 'guest.follow';
export type Handlers<O extends Operation> = { readonly [K in O]: Handler<K> };
