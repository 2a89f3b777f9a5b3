/** UDP sockets of one process: one per network, at most two. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';
import type { Log } from '../../ports.ts';

/** Beats of a whole site arrive in bursts; the kernel may grant less. */
const bufferBytes = 4 * 1024 * 1024;
export const maxNetworks = 2;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
}

/** `192.0.2.1:7444` or `[2001:db8::1]:7444`; undefined for anything else. Names are not taken: nothing here waits for DNS. */
export function parseAddress(text: string): Endpoint | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const family = isIP(host);
  const port = Number(match?.[3]);
  if ((family !== 4 && family !== 6) || port > 65_535) return undefined;
  return { host, port, family };
}

export function formatEndpoint({ host, port, family }: Endpoint): string {
  return family === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Where a datagram came from, with IPv4 written as IPv4 also behind a socket of both families. */
function endpointOf({ address, port, family }: RemoteInfo): Endpoint {
  if (family === 'IPv4') return { host: address, port, family: 4 };
  if (address.startsWith('::ffff:')) return { host: address.slice(7), port, family: 4 };
  return { host: address, port, family: 6 };
}

export interface OpenSocket {
  readonly family: 4 | 6;
  /** Where it listens. */
  readonly local: Endpoint;
  readonly socket: Socket;
}

export interface SocketEvents {
  readonly datagram: (bytes: Buffer, from: Endpoint, socket: OpenSocket) => void;
  readonly failed: (error: Error) => void;
}

/** The address is one already: asking the resolver for it would cost more than the datagram. */
type Found = (error: NodeJS.ErrnoException | null, address: string, family: number) => void;
const noLookup =
  (family: 4 | 6) =>
  (host: string, _options: unknown, found: Found): void =>
    found(null, host, family);

async function openOne(address: string, events: SocketEvents, log: Log): Promise<OpenSocket> {
  const wanted = parseAddress(address);
  if (!wanted) throw new TypeError(`"${address}" is not ADDRESS:PORT`);
  const socket = createSocket({ type: wanted.family === 4 ? 'udp4' : 'udp6', lookup: noLookup(wanted.family) });
  try {
    const listening = once(socket, 'listening');
    socket.bind({ address: wanted.host, port: wanted.port, exclusive: true });
    await listening;
  } catch (error) {
    socket.close();
    throw new Error(`cannot listen on ${address}: ${(error as Error).message}`, { cause: error });
  }
  try {
    socket.setRecvBufferSize(bufferBytes);
  } catch (error) {
    log.debug('the receive buffer stays small', { error: String(error) });
  }
  const { port } = socket.address();
  const open: OpenSocket = { family: wanted.family, local: { ...wanted, port }, socket };
  socket.on('message', (bytes, from) => events.datagram(bytes, endpointOf(from), open));
  socket.on('error', (error) => events.failed(error));
  return open;
}

export class Sockets {
  readonly all: readonly OpenSocket[];
  readonly #sent: (error: Error | null) => void;

  private constructor(all: readonly OpenSocket[], failed: (error: Error) => void) {
    this.all = all;
    this.#sent = (error) => {
      if (error) failed(error);
    };
  }

  /** @throws Error when an address cannot be listened on; then none is */
  static async open(listen: readonly string[], events: SocketEvents, log: Log): Promise<Sockets> {
    if (listen.length === 0 || listen.length > maxNetworks) throw new RangeError('one or two addresses to listen on');
    const all: OpenSocket[] = [];
    try {
      for (const address of listen) all.push(await openOne(address, events, log));
    } catch (error) {
      for (const { socket } of all) socket.close();
      throw error;
    }
    return new Sockets(all, events.failed);
  }

  /** The socket for the `way`-th address of a peer: the networks are in the same order everywhere. */
  choose(to: Endpoint, way: number): OpenSocket | undefined {
    const fitting = this.all.filter(({ family, local }) => family === to.family || local.host === '::');
    return fitting[way] ?? fitting[0];
  }

  send(bytes: Buffer, to: Endpoint, socket: OpenSocket): void {
    const host = to.family === 4 && socket.family === 6 ? `::ffff:${to.host}` : to.host;
    socket.socket.send(bytes, to.port, host, this.#sent);
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map(async ({ socket }) => new Promise<void>((done) => socket.close(() => done()))));
  }
}
