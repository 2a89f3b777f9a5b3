/**
 * The sites a person knows: `$XDG_CONFIG_HOME/virga/config.json`, readable by its owner only since it holds tokens.
 * Without any context the site of this machine is meant, by its unix socket.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Where } from '../api/client.ts';
import { fileFailure, usage } from './failure.ts';
import type { Io } from './io.ts';

export interface Context {
  readonly socket?: string;
  readonly url?: string;
  /** Addresses of the site's other controllers. */
  readonly others?: readonly string[];
  readonly token?: string;
  /** PEM of the site's authority: nobody else is believed. */
  readonly ca?: string;
}
export interface Contexts {
  readonly current?: string;
  readonly contexts: Readonly<Record<string, Context>>;
}

export const defaultSocket = '/run/virga/virga.sock';

export function configPath(io: Io): string {
  const base = io.env['XDG_CONFIG_HOME'];
  return join(
    base?.startsWith('/') === true ? base : join(io.env['HOME'] ?? homedir(), '.config'),
    'virga',
    'config.json',
  );
}

export function readContexts(io: Io): Contexts {
  const path = configPath(io);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { contexts: {} };
    throw fileFailure(path, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usage(`${path} is not JSON (${(error as Error).message}); correct or remove it`);
  }
  if (!isContexts(value)) throw usage(`${path} is not a list of contexts; correct or remove it`);
  return value;
}

function isContexts(value: unknown): value is Contexts {
  const { contexts, current } = (value ?? {}) as Partial<Contexts>;
  if (typeof contexts !== 'object' || contexts === null) return false;
  if (current !== undefined && typeof current !== 'string') return false;
  return Object.values(contexts).every(
    (each) =>
      typeof each === 'object' &&
      each !== null &&
      (each.others === undefined ||
        (Array.isArray(each.others) && each.others.every((one) => typeof one === 'string'))) &&
      (['socket', 'url', 'token', 'ca'] as const).every((key) => ['undefined', 'string'].includes(typeof each[key])),
  );
}

/** Write-then-rename, mode 0600: a crash leaves the old file, and nobody else reads the tokens. */
export function writeContexts(io: Io, contexts: Contexts): void {
  const path = configPath(io);
  const draft = `${path}.${process.pid}.new`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(draft, `${JSON.stringify(contexts, undefined, 2)}\n`, { mode: 0o600 });
    chmodSync(draft, 0o600);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw fileFailure(path, error);
  }
}

export interface WhereOptions {
  readonly context?: string;
  readonly socket?: string;
  readonly url?: string;
}

/** The site that is meant: the command line, then the environment, then the current context, then this machine. */
export function whereOf(io: Io, options: WhereOptions): Where {
  const given = [options.context, options.socket, options.url].filter((each) => each !== undefined);
  if (given.length > 1) throw usage('give one of --context, --socket and --url');
  if (options.socket !== undefined) return { socket: options.socket };
  if (options.url !== undefined) return remote(io, options.url);
  if (options.context !== undefined) return namedContext(io, options.context);
  if (io.env['VIRGA_SOCKET']) return { socket: io.env['VIRGA_SOCKET'] };
  if (io.env['VIRGA_URL']) return remote(io, io.env['VIRGA_URL']);
  const current = io.env['VIRGA_CONTEXT'] ?? readContexts(io).current;
  return current === undefined || current === '' ? { socket: defaultSocket } : namedContext(io, current);
}

function namedContext(io: Io, name: string): Where {
  const { contexts } = readContexts(io);
  const context = contexts[name];
  if (!context || !Object.hasOwn(contexts, name)) throw usage(`there is no context "${name}"; see: virga context list`);
  if (context.socket !== undefined) return { socket: context.socket };
  if (context.url === undefined || context.token === undefined)
    throw usage(`the context "${name}" has no address or no token; add it again: virga context add ${name} URL`);
  for (const url of [context.url, ...(context.others ?? [])]) checkUrl(url);
  const { url, others, token, ca } = context;
  return { url, token, ...(others ? { others } : {}), ...(ca === undefined ? {} : { ca }) };
}

/** A site named by its address: a context that has it lends its token; else VIRGA_TOKEN, VIRGA_CA (a file). */
function remote(io: Io, given: string): Where {
  const { url, others } = addressesOf(given);
  const token = io.env['VIRGA_TOKEN'];
  if (token) {
    const ca = io.env['VIRGA_CA'];
    return { url, token, ...(others ? { others } : {}), ...(ca ? { ca: readText(ca) } : {}) };
  }
  const known = Object.entries(readContexts(io).contexts).find(([, each]) =>
    [each.url, ...(each.others ?? [])].some((one) => one?.replace(/\/+$/, '') === url),
  );
  if (known) return namedContext(io, known[0]);
  throw usage(`no token for ${url}: set VIRGA_TOKEN, or add the site once: virga context add NAME ${url}`);
}

/** One address, or several controllers of one site with commas in between. */
export function addressesOf(text: string): { readonly url: string; readonly others?: readonly string[] } {
  const urls = text.split(',').map((each) => each.trim().replace(/\/+$/, ''));
  for (const each of urls) checkUrl(each);
  const [url = '', ...others] = urls;
  return { url, ...(others.length > 0 ? { others } : {}) };
}

export function checkUrl(text: string): void {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw usage(`"${text}" is not an address; write https://HOST:PORT`);
  }
  if (url.protocol !== 'https:') throw usage(`"${text}": tokens travel over https only; write https://HOST:PORT`);
  if (url.username !== '' || url.password !== '') throw usage('the address must not carry credentials');
}

export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fileFailure(path, error);
  }
}
