/** The HTTP server, built from the route table: a route without a handler does not compile. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { revisionOf } from '../../api/present.ts';
import { routes, type Operation, type Route } from '../../api/routes.ts';
import { VirgaError, type ErrorCode } from '../../core/errors.ts';
import type { Actor } from '../../core/model/access.ts';
import type { Repeat } from '../state.ts';
import { agentRoutes } from './agents.ts';
import type { Call, Handler, Handlers, Reply, UpgradeOperation } from './call.ts';
import { accessHandlers } from './handlers/access.ts';
import { guestHandlers } from './handlers/guests.ts';
import { healthHandlers } from './handlers/health.ts';
import { hostHandlers } from './handlers/hosts.ts';
import { imageHandlers } from './handlers/images.ts';
import { leaseHandlers } from './handlers/leases.ts';
import { votesOf } from './handlers/lease-view.ts';
import { networkHandlers } from './handlers/networks.ts';
import { siteHandlers } from './handlers/site.ts';
import { answer } from './reply.ts';
import type { Services } from './services.ts';
import { validatorOf, type Validator } from './validate.ts';

export type HttpOperation = Exclude<Operation, UpgradeOperation>;
export type RequestListener = (request: IncomingMessage, response: ServerResponse) => void;

/** Largest JSON body. Images come as bytes, which are never buffered. */
export const bodyLimit = 1024 * 1024;
const maxReason = 500;
/** Milliseconds for which the rest of a refused body is read and thrown away. */
const drainMs = 10_000;
/** Milliseconds within which a JSON body must be there; uploads take as long as they take. */
const bodyMs = 30_000;
const keyPattern = /^[\x21-\x7e]{1,128}$/;

export function allHandlers(services: Services): Handlers<HttpOperation> {
  return {
    ...siteHandlers(services),
    ...hostHandlers(services),
    ...leaseHandlers(services),
    ...guestHandlers(services),
    ...imageHandlers(services),
    ...networkHandlers(services),
    ...accessHandlers(services),
    ...healthHandlers(services),
  };
}

/** The application, and the function that every listener hands its requests to. */
export async function buildServer(
  services: Services,
  limits: { readonly bodyMs?: number } = {},
): Promise<{ app: FastifyInstance; listener: RequestListener }> {
  let listener: RequestListener | undefined;
  const app = fastify({
    logger: false,
    bodyLimit,
    exposeHeadRoutes: false,
    requestTimeout: 0,
    genReqId: () => services.ids.uuid(),
    routerOptions: { maxParamLength: 200 },
    // What is wrong before a route is found: a path that is not percent-encoded, say.
    frameworkErrors: (error, request, reply) => {
      void fail(services, error, request, reply);
    },
    serverFactory: (handler) => {
      listener = handler;
      return createServer();
    },
  });
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
  app.setErrorHandler(async (error, request, reply) => fail(services, error, request, reply));
  app.setNotFoundHandler((request) => {
    throw new VirgaError('route_not_found', { method: request.method, path: pathOf(request).slice(0, 200) });
  });
  app.addHook('onRequest', async (request) => hurry(request, limits.bodyMs ?? bodyMs));
  app.addHook('onResponse', async (request, reply) => record(services, request, reply));
  const handlers = allHandlers(services);
  for (const [operation, route] of Object.entries(routes) as [Operation, Route][])
    if (operation in handlers) serve(app, services, operation, route, handlers[operation as HttpOperation]);
  agentRoutes(app, services);
  await app.ready();
  if (!listener) throw new TypeError('no listener was made');
  return { app, listener };
}

function serve(
  app: FastifyInstance,
  services: Services,
  operation: Operation,
  route: Route,
  handler: Handler<Operation>,
): void {
  const validator = validatorOf(route);
  const actors = new WeakMap<FastifyRequest, Actor>();
  app.route({
    method: route.method,
    url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
    config: { operation, bytes: route.requestBytes === true },
    // Before the body is read: who may not ask is not listened to.
    onRequest: async (request) => {
      if (route.open === true) return;
      const actor = await services.access.actor(request.raw);
      if (route.change === true && actor.role !== 'admin')
        throw new VirgaError('forbidden', { who: actor.who, action: `do this: ${route.summary.toLowerCase()}` });
      actors.set(request, actor);
    },
    handler: async (request, reply) => {
      const actor = actors.get(request) ?? { who: 'nobody', role: 'read', community: '' };
      const call = callOf(services, route, validator, actor, request, reply);
      const result: Reply<Operation> = await handler(call);
      return answer(reply, route, result, call.signal);
    },
  });
}

function callOf(
  services: Services,
  route: Route,
  validator: Validator,
  identity: Actor,
  request: FastifyRequest,
  reply: FastifyReply,
): Call<Operation> {
  const query = { ...(request.query as Record<string, unknown>) };
  validator.query(query);
  if (route.requestBytes === true) demandBytes(request);
  else validator.body(request.body);
  const reason = reasonOf(request.headers['virga-reason']);
  const actor: Actor = { ...identity, ...(reason === undefined ? {} : { reason }) };
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  if (route.stream === 'events')
    reply.raw.once(
      'close',
      services.access.leash(identity, () => reply.raw.destroy()),
    );
  return {
    params: request.params,
    query,
    body: request.body,
    actor,
    context: { now: services.clock.now(), uuid: () => services.ids.uuid(), actor },
    ifMatch: revisionOf(request.headers['if-match']),
    repeat: route.idempotent === true ? repeatOf(request, actor.who) : undefined,
    signal: gone.signal,
    headers: request.headers,
    bytes: request.raw,
    raw: request.raw,
  } as unknown as Call<Operation>;
}

function demandBytes(request: FastifyRequest): void {
  if (request.headers['content-type'] !== 'application/octet-stream')
    throw new VirgaError('invalid_request', { detail: 'the body must be application/octet-stream' });
}

function reasonOf(header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string' || header === '') return undefined;
  let reason: string;
  try {
    reason = decodeURIComponent(header);
  } catch {
    throw new VirgaError('invalid_request', { detail: 'the header Virga-Reason is not percent-encoded UTF-8' });
  }
  const value = Buffer.byteLength(reason);
  if (value > maxReason)
    throw new VirgaError('limit', { what: 'The reason, in bytes,', value, limit: maxReason, how: 'Make it shorter.' });
  return reason;
}

function repeatOf(request: FastifyRequest, who: string): Repeat | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || !keyPattern.test(key))
    throw new VirgaError('invalid_request', { detail: 'Idempotency-Key must be 1 to 128 printable characters' });
  const requestHash = createHash('sha256')
    .update(`${request.method} ${pathOf(request)}\n${JSON.stringify(request.body)}`)
    .digest('hex');
  return { key, who, requestHash };
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? '';
}

function operationOf(request: FastifyRequest): string {
  return (request.routeOptions.config as { operation?: string }).operation ?? 'none';
}

/** What the framework itself refuses, in our own words. */
function known(error: unknown): VirgaError | undefined {
  if (error instanceof VirgaError) return error;
  const { code = '', message, statusCode = 500 } = error as { code?: string; message: string; statusCode?: number };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new VirgaError('body_too_large', { limit: '1 MiB' });
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new VirgaError('invalid_request', { detail: 'the body must be application/json' });
  if (statusCode >= 400 && statusCode < 500) return new VirgaError('invalid_request', { detail: message });
  return undefined;
}

const passing: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'not_leading',
  'standby',
  'no_majority',
  'store_unavailable',
]);

/** Who does not lead says who does, or what it lacks, where it knows that. */
function informed(services: Services, error: VirgaError): VirgaError {
  if (error.code !== 'not_leading') return error;
  const other = services.leader?.();
  if (other !== undefined) return new VirgaError('standby', { leader: other }, { cause: error });
  const sight = services.lease?.sight();
  if (sight?.leadership === 'leading' && !sight.committing)
    return new VirgaError('store_unavailable', { detail: 'the voters follow this controller' }, { cause: error });
  if (sight?.leadership !== 'candidate') return error;
  const { answeringVotes, votes } = votesOf(sight);
  if (votes === 0 || answeringVotes * 2 > votes) return error;
  return new VirgaError('no_majority', { answering: answeringVotes, votes }, { cause: error });
}

async function fail(services: Services, error: unknown, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  let shown = known(error);
  if (!shown) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    services.log.error('an internal error', { id: request.id, operation: operationOf(request), error: stack });
    shown = new VirgaError('internal', { id: request.id });
  }
  // Agents look for the leader by themselves, and know one word for it.
  if (!operationOf(request).startsWith('agent.')) shown = informed(services, shown);
  services.metrics.error(shown.code);
  const body = JSON.stringify(shown.toBody());
  if (shown.status === 401) void reply.header('www-authenticate', 'Bearer realm="virga"');
  if (passing.has(shown.code)) void reply.header('retry-after', '1');
  // HEAD has no body.
  if (request.method === 'HEAD') void reply.header('virga-error', encodeURIComponent(body));
  if (!request.raw.complete) drain(request.raw, reply);
  await reply.code(shown.status).headers(plainHeaders(request.id)).type('application/json; charset=utf-8').send(body);
}

/**
 * A client that is still sending would take a hang-up for a broken connection and never see the answer: so the rest is
 * read and thrown away for a while, and then the line is cut.
 */
function drain(request: IncomingMessage, reply: FastifyReply): void {
  void reply.removeHeader('connection');
  // A reader that gave up half-way is still listening for `readable`, and with such a listener nothing would flow.
  request.removeAllListeners('readable');
  request.resume();
  const timer = setTimeout(() => request.destroy(), drainMs).unref();
  request.once('close', () => clearTimeout(timer));
}

/** A body that comes a byte at a time would hold its connection for ever, and some routes know nobody yet. */
function hurry(request: FastifyRequest, ms: number): void {
  const { raw } = request;
  const { config } = request.routeOptions as { readonly config?: { readonly bytes?: boolean } };
  const announced = raw.headers['transfer-encoding'] !== undefined || Number(raw.headers['content-length'] ?? 0) > 0;
  if (!announced || config?.bytes === true) return;
  const timer = setTimeout(() => {
    if (!raw.complete) raw.destroy();
  }, ms).unref();
  raw.once('close', () => clearTimeout(timer));
}

function plainHeaders(id: string): Record<string, string> {
  return { 'virga-request-id': id, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };
}

function record(services: Services, request: FastifyRequest, reply: FastifyReply): void {
  const operation = operationOf(request);
  services.metrics.request(operation, reply.statusCode, reply.elapsedTime);
  const values = { id: request.id, operation, status: reply.statusCode, ms: Math.round(reply.elapsedTime) };
  if (request.method === 'GET' || request.method === 'HEAD') services.log.debug('answered', values);
  else services.log.info('answered', { ...values, path: pathOf(request) });
}
