/**
 * A unix socket by which commands on this machine ask one of its parts: one JSON line there, lines of progress back, and
 * one last line. Who may open the socket's file may ask, so it is the owner's alone.
 */
import { chmod, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { VirgaError, type ErrorCode, type ErrorValues } from '../core/errors.ts';

export type LocalRequest = Readonly<Record<string, string | number | boolean>>;
/** What it says on the way, and what comes of it. */
type Line =
  | { readonly say: string }
  | { readonly done: LocalRequest }
  | { readonly error: { readonly code: ErrorCode; readonly values: ErrorValues } };

export type LocalHandler = (request: LocalRequest, say: (text: string) => void) => Promise<LocalRequest>;

const maxLineBytes = 16 * 1024;
const maxCallers = 8;
/** Milliseconds in which a caller must have asked. */
const askMs = 5000;

/** Serves until closed; a file that a dead part left behind is replaced. @throws the system's error */
export async function openLocalDoor(path: string, handle: LocalHandler): Promise<{ close(): Promise<void> }> {
  await rm(path, { force: true });
  const callers = new Set<Socket>();
  const server = createServer((socket) => {
    callers.add(socket);
    socket.once('close', () => callers.delete(socket));
    socket.on('error', () => socket.destroy());
    void serve(socket, handle);
  });
  server.maxConnections = maxCallers;
  await listening(server, path);
  return {
    async close() {
      for (const socket of callers) socket.destroy();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

async function listening(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // Made closed, for between listening and a later chmod anybody could come in. The file is made within this call, and
    // the mask holds for the whole process, so it must not hold longer.
    const before = process.umask(0o177);
    server.listen(path, resolve);
    process.umask(before);
  });
  await chmod(path, 0o600);
  // It keeps nothing alive by itself.
  server.unref();
}

async function serve(socket: Socket, handle: LocalHandler): Promise<void> {
  const send = (line: Line): void => void (socket.writable && socket.write(`${JSON.stringify(line)}\n`));
  try {
    const timer = setTimeout(() => socket.destroy(), askMs);
    const text = await firstLine(socket).finally(() => clearTimeout(timer));
    const request = JSON.parse(text) as LocalRequest | null;
    if (typeof request !== 'object' || request === null) throw new VirgaError('usage', { detail: 'not a request' });
    send({ done: await handle(request, (say) => send({ say })) });
  } catch (error) {
    const told = error instanceof VirgaError ? error : new VirgaError('usage', { detail: String(error) });
    send({ error: { code: told.code, values: told.values } });
  }
  socket.end();
}

async function firstLine(socket: Socket): Promise<string> {
  for await (const line of linesOf(socket)) return line;
  throw new VirgaError('usage', { detail: 'nothing was asked' });
}

/** Lines, none longer than its bound. Does not close the socket when it is left early. */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let kept = '';
  for await (const piece of socket.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    kept += String(piece);
    if (kept.length > maxLineBytes) throw new VirgaError('usage', { detail: 'the line is too long' });
    for (let end = kept.indexOf('\n'); end >= 0; end = kept.indexOf('\n')) {
      const line = kept.slice(0, end);
      kept = kept.slice(end + 1);
      yield line;
    }
  }
}

/**
 * Asks the part behind the socket.
 * @throws VirgaError what it answers · `setup` when nobody is behind it · `timeout`
 */
export async function askLocalDoor(
  path: string,
  request: LocalRequest,
  options: { readonly what: string; readonly timeoutMs: number; readonly say: (text: string) => void },
): Promise<LocalRequest> {
  const socket = connect(path);
  const { what, timeoutMs } = options;
  const timer = setTimeout(() => {
    socket.destroy(new VirgaError('timeout', { what, seconds: Math.round(timeoutMs / 1000) }));
  }, timeoutMs);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', resolve);
    });
    socket.write(`${JSON.stringify(request)}\n`);
    for await (const text of linesOf(socket)) {
      const line = JSON.parse(text) as Line;
      if ('say' in line) options.say(line.say);
      else if ('done' in line) return line.done;
      else throw new VirgaError(line.error.code, line.error.values);
    }
    throw new Error('it ended in the middle');
  } catch (error) {
    if (error instanceof VirgaError) throw error;
    const detail = `${what} does not answer (${path}): ${(error as Error).message}`;
    throw new VirgaError(
      'setup',
      { detail, how: 'Is it running on this machine? See virga doctor.' },
      { cause: error },
    );
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
