/** The controller's doors: a unix socket, and TLS listeners whose certificate is swapped while they serve. */
import { chmod, chown, lstat, mkdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { VirgaError } from '../../core/errors.ts';
import type { ServerIdentity } from '../ca.ts';
import type { Access } from './access.ts';
import type { RequestListener } from './server.ts';
import type { UpgradeListener } from './upgrades.ts';

const maxConnections = 4096;
/** An idle keep-alive connection is closed after this; the headers of a request must come within the other. */
const keepAliveMs = 65_000;
const headersMs = 30_000;
/** A request or answer of which nothing moves for so long is cut. Server-sent events beat every 15 s. */
const stalledMs = 120_000;

/** `HOST:PORT`, `[IPv6]:PORT`, `:PORT`, or `fd:N` for a listening socket that was inherited. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly fd: number };

/** @throws VirgaError usage */
export function parseListen(text: string): ListenAddress {
  const fd = /^fd:(\d{1,4})$/.exec(text)?.[1];
  if (fd !== undefined) return { fd: Number(fd) };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (!match || !(port >= 0 && port <= 65_535))
    throw new VirgaError('usage', { detail: `"${text}" is no address to listen on: HOST:PORT, [IPv6]:PORT or fd:N` });
  return { host: match[1] ?? match[2] ?? '', port };
}

/** The doors are open before there is somebody behind them: who comes so early is sent away, and tries again. */
const tooEarly = (socket: Socket): void => {
  socket.destroy();
};

/** What is no HTTP is told so in the form of every other error, and the line is cut. */
function noHttp(error: NodeJS.ErrnoException, socket: Duplex): void {
  const { code = '' } = error;
  if (!socket.writable || !/^(HPE_|ERR_HTTP_)/.test(code)) {
    socket.destroy();
    return;
  }
  const detail = code === 'HPE_HEADER_OVERFLOW' ? 'its headers are larger than 16 KiB' : 'it is not HTTP/1.1';
  const body = JSON.stringify(new VirgaError('invalid_request', { detail }).toBody());
  socket.end(
    `HTTP/1.1 400 Refused\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), 2000).unref();
}

function tune(server: Server | TlsServer): void {
  server.on('clientError', noHttp);
  server.on('connection', tooEarly);
  server.maxConnections = maxConnections;
  server.keepAliveTimeout = keepAliveMs;
  server.headersTimeout = headersMs;
  // Uploads take as long as they take; what stalls is cut by the time-out of the socket.
  server.requestTimeout = 0;
  server.timeout = stalledMs;
}

/** Everything that listens. Doors are opened as root, before privileges are dropped; requests are served when told how. */
export class Doors {
  readonly #unix: Server;
  readonly #socketPath: string;
  readonly #tls: TlsServer[] = [];

  private constructor(unix: Server, socketPath: string) {
    this.#unix = unix;
    this.#socketPath = socketPath;
  }

  /** @throws VirgaError setup: another controller listens there, or the address cannot be had. */
  static async open(
    socketPath: string,
    listen: readonly ListenAddress[],
    group: { readonly gid: number } | undefined,
  ): Promise<Doors> {
    await mkdir(dirname(socketPath), { recursive: true, mode: 0o755 });
    await clearSocket(socketPath);
    const unix = createServer();
    tune(unix);
    // The socket is made with the umask's rights: until its group is set, nobody but us may connect.
    const umask = process.umask(0o177);
    const bound = listening(unix, { path: socketPath }, socketPath);
    process.umask(umask);
    await bound;
    await chmod(socketPath, group ? 0o660 : 0o600);
    if (group && process.getuid?.() === 0) await chown(socketPath, 0, group.gid);
    const doors = new Doors(unix, socketPath);
    try {
      for (const address of listen) await doors.#openTls(address);
    } catch (error) {
      await doors.close(0);
      throw error;
    }
    return doors;
  }

  /** From now on requests are served. */
  serve(access: Access, listener: RequestListener, upgrade: UpgradeListener): void {
    this.#unix.on('connection', (socket: Socket) => access.accepted(socket));
    for (const server of [this.#unix, ...this.#tls]) {
      server.off('connection', tooEarly);
      server.on('request', listener);
      server.on('upgrade', (request, socket, head) => {
        (socket as Socket).setTimeout(0);
        upgrade(request, socket, head);
      });
    }
  }

  /** A new server certificate; connections that are open keep theirs. */
  identify(identity: Pick<ServerIdentity, 'certificate' | 'key'>, authority: string): void {
    for (const server of this.#tls)
      server.setSecureContext({
        key: identity.key,
        cert: identity.certificate + authority,
        ca: authority,
        minVersion: 'TLSv1.2',
      });
  }

  /** Addresses of the TLS listeners. */
  get addresses(): readonly AddressInfo[] {
    return this.#tls.map((server) => server.address()).filter((each) => typeof each === 'object' && each !== null);
  }

  /** No new connections; those that are open get `graceMs` to end. */
  async close(graceMs: number): Promise<void> {
    const servers = [this.#unix, ...this.#tls];
    const closed = servers.map(
      async (server) =>
        new Promise<void>((resolve) => {
          server.close(() => resolve());
          server.closeIdleConnections();
        }),
    );
    const timer = setTimeout(() => {
      for (const server of servers) server.closeAllConnections();
    }, graceMs);
    await Promise.all(closed);
    clearTimeout(timer);
    await rm(this.#socketPath, { force: true }).catch(() => undefined);
  }

  async #openTls(address: ListenAddress): Promise<void> {
    // Which certificate a client must show depends on the path, so it is asked for here and judged there.
    const server = createTlsServer({
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      handshakeTimeout: 10_000,
    });
    tune(server);
    const where = 'fd' in address ? `fd:${address.fd}` : `${address.host}:${address.port}`;
    await listening(
      server,
      'fd' in address ? address : { ...address, ...(address.host === '' ? { host: '::' } : {}) },
      where,
    );
    this.#tls.push(server);
  }
}

async function listening(server: Server | TlsServer, options: object, where: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void =>
      reject(
        new VirgaError(
          'setup',
          {
            detail: `Cannot listen on ${where}: ${error.message}`,
            how: 'Choose another address, or end what listens there.',
          },
          { cause: error },
        ),
      );
    server.once('error', failed);
    server.listen(options, () => {
      server.off('error', failed);
      resolve();
    });
  });
}

/** Removes the socket of a controller that died; refuses when one answers there. */
async function clearSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found) return;
  if (!found.isSocket())
    throw new VirgaError('setup', {
      detail: `${path} is there and is no socket`,
      how: 'Remove it, or use another path.',
    });
  const answers = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.setTimeout(2000, () => probe.destroy(new Error('no answer')));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (answers)
    throw new VirgaError('setup', {
      detail: `A controller listens on ${path} already`,
      how: 'Stop it first (virga down).',
    });
  await rm(path, { force: true });
}
