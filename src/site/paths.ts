import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** The folder of the program: the checkout, or where the one-file release lies. */
export function programRoot(): string {
  return import.meta.url.endsWith('virga.mjs') ? here : join(here, '../..');
}

const small = ['--max-semi-space-size=2'];
/** Smaller still, with one helper thread: nobody waits for a thread that has no turn. */
const lean = ['--max-semi-space-size=1', '--v8-pool-size=1'];
/** V8 flags by part. These share their host with guests: a small young generation keeps them small. */
export const nodeFlags: Readonly<Record<string, readonly string[]>> = {
  agent: small,
  keeper: lean,
  guard: lean,
  witness: lean,
};

/** How this very program is started again as another of its parts: from the checkout, or from the one-file release. */
export function selfArgv(...args: readonly string[]): string[] {
  const entry = import.meta.url.endsWith('virga.mjs') ? fileURLToPath(import.meta.url) : join(here, '../main.ts');
  return [process.execPath, ...(nodeFlags[args[0] ?? ''] ?? []), entry, ...args];
}

/** Where things are on a machine that nobody configured. */
export const defaults = {
  dataDir: '/var/lib/virga',
  runDir: '/run/virga',
  socket: '/run/virga/virga.sock',
  /** Where agents and remote clients reach the controller. */
  port: 7443,
} as const;

/** Where the pid of a part that `up` runs is kept. */
export const partFile = (part: 'libvirtd' | 'controller' | 'agent' | 'keeper' | 'guard'): string =>
  join(defaults.runDir, `${part}.part`);
