/** Connections that become WebSockets: the agents' links and streams, people's consoles and logs. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { maxMessageBytes } from '../../api/link.ts';
import { VirgaError } from '../../core/errors.ts';
import { maxStreamMessage } from '../streams.ts';
import type { UpgradeOperation } from './call.ts';
import { reach } from './handlers/guests.ts';
import type { Services } from './services.ts';

export type UpgradeListener = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

const links = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: maxMessageBytes });
const streams = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: maxStreamMessage });

/** What a person may upgrade, from the route table's paths. */
const personal: readonly { readonly operation: UpgradeOperation; readonly pattern: RegExp }[] = [
  { operation: 'guest.console', pattern: /^\/v1\/guests\/([^/]+)\/console$/ },
  { operation: 'guest.follow', pattern: /^\/v1\/guests\/([^/]+)\/log\/follow$/ },
];

export function upgradesOf(services: Services): UpgradeListener {
  return (request, socket, head) => {
    socket.on('error', () => socket.destroy());
    upgrade(services, request, socket, head).catch((error: unknown) => refuse(services, error, socket));
  };
}

async function upgrade(services: Services, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  const path = (request.url ?? '').split('?', 1)[0] ?? '';
  if (path === '/agent/v1/link') return linkAgent(services, request, socket, head);
  const stream = /^\/agent\/v1\/streams\/([0-9a-f-]{36})$/.exec(path)?.[1];
  if (stream !== undefined) return takeStream(services, stream, request, socket, head);
  for (const { operation, pattern } of personal) {
    const ref = pattern.exec(path)?.[1];
    if (ref !== undefined) return person(services, operation, decode(ref), request, socket, head);
  }
  throw new VirgaError('route_not_found', { method: 'WebSocket', path: path.slice(0, 200) });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new VirgaError('invalid_request', { detail: 'the path is not percent-encoded UTF-8' }, { cause: error });
  }
}

function linkAgent(services: Services, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  // While another controller leads, a host of the site may wait here; whether it still is one is asked when this one leads.
  const { known } = services.state;
  const hostId = known ? services.access.host(request).id : services.access.certified(request);
  links.handleUpgrade(request, socket, head, (socketOfAgent) => services.links.accept(socketOfAgent, hostId));
}

function takeStream(services: Services, id: string, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const host = services.access.host(request);
  const expected = services.streams.arrive(id, host.id, (ready) => streams.handleUpgrade(request, socket, head, ready));
  if (!expected) throw new VirgaError('not_found', { kind: 'stream', name: id });
}

async function person(
  services: Services,
  operation: UpgradeOperation,
  ref: string,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const actor = await services.access.actor(request);
  const isConsole = operation === 'guest.console';
  if (isConsole && actor.role !== 'admin')
    throw new VirgaError('forbidden', { who: actor.who, action: 'attach to a console' });
  const { guest, host } = reach(services.state.snapshot, ref, isConsole ? 'console' : 'log');
  const gone = new AbortController();
  socket.once('close', () => gone.abort());
  const agent = await services.streams.open(host, guest.id, isConsole ? 'console' : 'log', gone.signal);
  let joined = false;
  // A handshake that fails after all calls nobody back: the agent's side would stay open for ever.
  const alone = (): void => {
    if (!joined) agent.terminate();
  };
  if (socket.destroyed) return alone();
  socket.once('close', alone);
  services.log.info('a stream was opened', { operation, guest: guest.name, who: actor.who });
  streams.handleUpgrade(request, socket, head, (own) => {
    joined = true;
    own.once(
      'close',
      services.access.leash(actor, () => own.terminate()),
    );
    services.streams.join(own, agent);
  });
}

function refuse(services: Services, error: unknown, socket: Duplex): void {
  const id = services.ids.uuid();
  const shown = error instanceof VirgaError ? error : new VirgaError('internal', { id });
  if (shown.code === 'internal')
    services.log.error('an internal error', {
      id,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  services.metrics.error(shown.code);
  const body = JSON.stringify(shown.toBody());
  socket.end(
    `HTTP/1.1 ${shown.status} Refused\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), 2000).unref();
}
