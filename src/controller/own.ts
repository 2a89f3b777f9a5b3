/** Who this controller is: an id of its own, kept in its data folder. */
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import { writeDurably } from '../effects/files.ts';
import type { Ids } from '../ports.ts';

export interface OwnName {
  readonly id: Uuid;
  /** Of its machine. */
  readonly name: string;
}

const file = 'controller.json';
const idPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Reads it, or makes it where there is none. @throws VirgaError setup when the file is damaged */
export async function ownName(dataDir: string, ids: Ids): Promise<OwnName> {
  const path = join(dataDir, file);
  const name = (hostname().split('.')[0] ?? 'controller').toLowerCase().slice(0, 63);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) {
    const id = ids.uuid();
    await writeDurably(path, `${JSON.stringify({ id })}\n`);
    return { id, name };
  }
  const id = readId(text);
  if (id === undefined)
    throw new VirgaError('setup', { detail: `${path} is damaged`, how: 'Remove it: a new one is made.' });
  return { id, name };
}

function readId(text: string): Uuid | undefined {
  try {
    const { id } = JSON.parse(text) as { readonly id?: unknown };
    return typeof id === 'string' && idPattern.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
