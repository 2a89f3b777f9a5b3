import type { HostSession } from '../core/model/host.ts';
import type { Files, Ids } from '../ports.ts';

const file = 'session.json';

interface Kept extends HostSession {
  readonly bootId: string;
}

/** The host's session: the same until the next boot, then a higher number and a new id. */
export async function currentSession(files: Files, ids: Ids, bootId: string): Promise<HostSession> {
  const text = await files.read(file);
  const kept = text === undefined ? undefined : (JSON.parse(text) as Kept);
  if (kept && kept.bootId === bootId) return { number: kept.number, id: kept.id };
  const next = { number: (kept?.number ?? 0) + 1, id: ids.uuid() };
  await files.write(file, JSON.stringify({ ...next, bootId }));
  return next;
}
