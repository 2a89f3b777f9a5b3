/** From a libvirt URI to a unix socket, by libvirt's own rules (remote_sockets.c), without starting any daemon. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LibvirtError } from './errors.ts';

/** What a URI asks for. */
export interface LibvirtUri {
  /** `qemu`, `test`, `network`, `storage` … */
  readonly driver: string;
  /** The name for connectOpen: the URI without transport and without the parameters meant for the client. */
  readonly openName: string;
  /** Whether the user's own daemons are meant (`…:///session`). */
  readonly session: boolean;
  /** The parameter `?socket=PATH`. */
  readonly socket: string | undefined;
  /** The parameter `?mode=`: one daemon per driver (`direct`), the one libvirtd (`legacy`), or what is there (`auto`). */
  readonly mode: 'auto' | 'direct' | 'legacy';
}

/** Reads a libvirt URI. @throws LibvirtError (argument) for what no unix socket on this machine can serve. */
export function parseUri(text: string): LibvirtUri {
  const uri = URL.canParse(text) ? new URL(text) : undefined;
  const scheme = /^([a-z][a-z0-9]*)(?:\+([a-z0-9]+))?:$/.exec(uri?.protocol ?? '');
  const driver = scheme?.[1];
  if (uri === undefined || driver === undefined) throw LibvirtError.argument(`not a libvirt URI: ${text}`);
  const transport = scheme?.[2] ?? 'unix';
  if (transport !== 'unix' || uri.host !== '') {
    throw LibvirtError.argument(
      `${text} is not on this machine: only unix sockets are supported, such as qemu:///system`,
    );
  }
  const mode = uri.searchParams.get('mode') ?? 'auto';
  if (mode !== 'auto' && mode !== 'direct' && mode !== 'legacy') {
    throw LibvirtError.argument(`${text}: mode must be auto, direct or legacy`);
  }
  const socket = uri.searchParams.get('socket') ?? undefined;
  uri.searchParams.delete('socket');
  uri.searchParams.delete('mode');
  const openName = `${driver}://${uri.pathname}${uri.search}`;
  return { driver, openName, session: uri.pathname === '/session', socket, mode };
}

/** Where to look, and how; the defaults are this machine's. */
export interface SocketSearch {
  readonly readonly?: boolean;
  /** Folder of the system daemons' sockets (default `/run/libvirt`). */
  readonly runDir?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly exists?: (path: string) => boolean;
}

/**
 * The sockets that may serve a URI, best first: the driver's own daemon (`virtqemud-sock`), then libvirtd or its
 * stand-in virtproxyd (`libvirt-sock`). Read-only connections use the `-ro` sockets, which exist for system daemons.
 */
export function socketCandidates(uri: LibvirtUri, search: SocketSearch = {}): string[] {
  if (uri.socket !== undefined) return [uri.socket];
  const folder = uri.session ? sessionFolder(search.env ?? process.env) : (search.runDir ?? '/run/libvirt');
  const suffix = search.readonly === true && !uri.session ? 'sock-ro' : 'sock';
  const direct = join(folder, `virt${uri.driver}d-${suffix}`);
  const legacy = join(folder, `libvirt-${suffix}`);
  if (uri.mode === 'direct') return [direct];
  return uri.mode === 'legacy' ? [legacy] : [direct, legacy];
}

/** The first candidate that exists. @throws LibvirtError (connect) naming all of them where none does. */
export function findSocket(uri: LibvirtUri, search: SocketSearch = {}): string {
  const exists = search.exists ?? existsSync;
  const candidates = socketCandidates(uri, search);
  const found = candidates.find((path) => exists(path));
  if (found !== undefined) return found;
  throw new LibvirtError('connect', `no libvirt daemon for ${uri.openName} here: looked for ${candidates.join(', ')}`);
}

function sessionFolder(env: Readonly<Record<string, string | undefined>>): string {
  const runtime = env['XDG_RUNTIME_DIR'] ?? env['XDG_CACHE_HOME'] ?? (env['HOME'] && join(env['HOME'], '.cache'));
  if (runtime === undefined || runtime === '') {
    throw new LibvirtError('connect', 'a session URI needs XDG_RUNTIME_DIR (or HOME) to be set');
  }
  return join(runtime, 'libvirt');
}
