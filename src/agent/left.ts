/**
 * After a planned leave nothing of before runs any more, as after a boot: guests that were stopped for it are not guests that
 * stopped by themselves, and start again with the next life of the agent, even if the machine stayed up after all.
 */
import { readFile } from 'node:fs/promises';
import type { Files } from '../ports.ts';

const path = 'left.json';

interface Left {
  readonly bootId: string;
  readonly leaves: number;
}

/** The kernel's boot id, with the number of leaves since then. */
export async function currentBoot(files: Pick<Files, 'read'>): Promise<string> {
  const { bootId, leaves } = await readLeft(files);
  return leaves === 0 ? bootId : `${bootId}+${leaves}`;
}

/** All guests are stopped: whoever looks next looks after a boot. */
export async function noteLeave(files: Pick<Files, 'read' | 'write'>): Promise<void> {
  const { bootId, leaves } = await readLeft(files);
  await files.write(path, JSON.stringify({ bootId, leaves: leaves + 1 } satisfies Left));
}

async function readLeft(files: Pick<Files, 'read'>): Promise<Left> {
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const kept = parse(await files.read(path));
  return { bootId, leaves: kept?.bootId === bootId ? (kept.leaves ?? 0) : 0 };
}

function parse(text: string | undefined): Partial<Left> | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Partial<Left>);
  } catch {
    return undefined;
  }
}
