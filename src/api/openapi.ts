/** The OpenAPI 3.1 document, made from the route table: what is served is what is written. */
import type { TSchema } from 'typebox';
import { ErrorAnswer } from './errors.ts';
import { routes, type Operation, type Route } from './routes.ts';
import * as schemas from './schemas.ts';

type Json = Readonly<Record<string, unknown>>;

/** Schemas with a name of their own in the document: every exported object of `schemas.ts`. */
const named = new Map<unknown, string>([
  ...Object.entries(schemas as Record<string, unknown>)
    .filter(([, schema]) => (schema as { type?: string } | undefined)?.type === 'object')
    .map(([name, schema]) => [schema, name] as const),
  [ErrorAnswer, 'Error'],
]);

/** A copy in which named schemas are references. Optional copies of a schema are written out. */
function link(schema: unknown, self = false): unknown {
  const name = named.get(schema);
  if (name !== undefined && !self) return { $ref: `#/components/schemas/${name}` };
  if (Array.isArray(schema)) return schema.map((each) => link(each));
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, link(value)]));
}

const media: Readonly<Record<NonNullable<Route['stream']>, string>> = {
  events: 'text/event-stream',
  bytes: 'application/octet-stream',
  text: 'text/plain',
  websocket: 'application/octet-stream',
};

function parametersOf(route: Route): Json[] {
  const path = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string', minLength: 1, maxLength: 63 },
    description: 'Name or UUID',
  }));
  const { properties = {}, required = [] } = (route.query ?? {}) as {
    properties?: Record<string, TSchema>;
    required?: string[];
  };
  const query = Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema: link(schema),
  }));
  return [...path, ...query, ...headersOf(route)];
}

function headersOf(route: Route): Json[] {
  const header = (name: string, description: string, required = false): Json => ({
    name,
    in: 'header',
    required,
    schema: { type: 'string' },
    description,
  });
  return [
    ...(route.change === true && route.method !== 'GET'
      ? [
          header('Virga-Reason', 'Why; percent-encoded UTF-8, at most 500 bytes. Required on what belongs to others'),
          header('If-Match', 'The ETag that was read; refused with 412 when the object has changed since'),
        ]
      : []),
    ...(route.idempotent === true
      ? [header('Idempotency-Key', 'A repeat within 24 hours is answered with the same objects')]
      : []),
    ...(route.requestBytes === true ? [header('Upload-Offset', 'At which byte the body begins', true)] : []),
    ...(route.stream === 'events' ? [header('Last-Event-ID', 'Go on after this event')] : []),
    ...(route.path.endsWith('/content') && route.method === 'GET' ? [header('Range', 'One range of bytes')] : []),
  ];
}

function answerOf(route: Route): Json {
  if (route.status === 101) return { description: 'Switching to WebSocket; bytes as binary messages' };
  if (route.answer) return { description: 'OK', content: { 'application/json': { schema: link(route.answer) } } };
  if (route.stream) return { description: 'OK', content: { [media[route.stream]]: { schema: { type: 'string' } } } };
  return { description: 'OK, without a body' };
}

function bodyOf(route: Route): Json {
  if (route.requestBytes === true)
    return { requestBody: { required: true, content: { 'application/octet-stream': { schema: {} } } } };
  if (!route.body) return {};
  return { requestBody: { required: true, content: { 'application/json': { schema: link(route.body) } } } };
}

function operationOf(id: string, route: Route): Json {
  const parameters = parametersOf(route);
  return {
    operationId: id,
    summary: route.summary,
    tags: [route.tag],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...bodyOf(route),
    responses: {
      [route.status]: answerOf(route),
      default: { description: 'An error', content: { 'application/json': { schema: link(ErrorAnswer) } } },
    },
    security: route.open === true ? [] : [{ token: [] }],
    'x-role': route.open === true ? 'none' : route.change === true ? 'admin' : 'read',
    'x-cli': route.cli,
  };
}

/** The whole document. `version` is the product's. */
export function openApi(version: string): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const [id, route] of Object.entries(routes) as [Operation, Route][])
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(id, route);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Virga',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'The API of one Virga site. Over the unix socket on the controller’s machine the peer’s uid decides; from elsewhere a token over TLS.',
    },
    paths,
    components: {
      schemas: Object.fromEntries([...named].map(([schema, name]) => [name, link(schema, true)])),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'vgt1.ID.SECRET' } },
    },
  };
}
