/**
 * Asking the keeper of this machine how things stand, over its own door: works without controller, database and
 * majority. Only root may; see `src/core/ha/door.ts` for what is said.
 */
import { existsSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { DoorView, FromDoor, ToDoor } from '../core/ha/door.ts';
import { VirgaError } from '../core/errors.ts';

export type { DoorView };

/** Run folders of keepers, one below it per host (several only where hosts are simulated). */
export const keepersFolder = '/run/virga/keeper';
const timeoutMs = 2000;
/** An answer lists the guests of one host. */
const maxBytes = 8 * 1024 * 1024;

/** Paths of the doors of this machine's keepers. */
export function keeperDoors(folder: string = keepersFolder): string[] {
  try {
    return (
      readdirSync(folder, { withFileTypes: true })
        .filter((each) => each.isDirectory())
        .map((each) => join(folder, each.name, 'keeper.sock'))
        // A keeper that ended in order took its door with it.
        .filter((path) => existsSync(path))
        .sort()
    );
  } catch {
    return [];
  }
}

/** @throws VirgaError keeper when nobody answers there within 2 s */
export async function askKeeper(path: string): Promise<DoorView> {
  const fail = (detail: string, cause?: unknown): VirgaError =>
    new VirgaError('keeper', { host: 'this machine', detail: `${path}: ${detail}` }, { cause });
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const end = (act: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      act();
    };
    const timer = setTimeout(() => end(() => reject(fail('no answer within 2 s'))), timeoutMs);
    let pending = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write(`${JSON.stringify({ id: 1, ask: 'state' } satisfies ToDoor)}\n`));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      end(() => reject(fail(words[error.code ?? ''] ?? error.message, error))),
    );
    socket.once('close', () => end(() => reject(fail('it hung up'))));
    socket.on('data', (text: string) => {
      pending += text;
      if (pending.length > maxBytes) return end(() => reject(fail('its answer is too long')));
      const lines = pending.split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) {
        const said = read(line);
        if (said && 'value' in said) return end(() => resolve(said.value as DoorView));
        if (said && 'error' in said) return end(() => reject(fail(said.error)));
      }
    });
  });
}

const words: Readonly<Record<string, string>> = {
  ENOENT: 'no such socket',
  ECONNREFUSED: 'the keeper does not run',
  EACCES: 'only root may ask it',
};

/** The answer to our question; undefined for what the keeper tells by itself, and for what is none. */
function read(line: string): Extract<FromDoor, { readonly id: number }> | undefined {
  try {
    const said = JSON.parse(line) as FromDoor | null;
    return said && 'id' in said && said.id === 1 ? said : undefined;
  } catch {
    return undefined;
  }
}
