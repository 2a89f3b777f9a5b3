/** What the keeper has on disk, and how it is read at its start. A file that cannot be read is an error, never a fresh start. */
import { VirgaError } from '../core/errors.ts';
import type { RegisterDisk } from '../core/ha/register.ts';
import type { HostRecord, VoterDisk } from '../core/ha/voter-record.ts';
import { noEpoch, type Epoch, type VoterList } from '../core/ha/types.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Files, Ids } from '../ports.ts';
import type { Durable } from './durable.ts';

export const paths = {
  voter: 'voter.json',
  session: 'session.json',
  register: 'register.json',
  confirmed: 'confirmed.json',
  epoch: 'epoch.json',
  host: (id: Uuid): string => `hosts/${id}.json`,
} as const;

export interface KeptSession extends HostSession {
  readonly bootId: string;
}

export interface Remembered {
  readonly voter: VoterDisk;
  readonly session: HostSession;
  /** The session began now: nothing of an earlier one runs, unless our disk was wiped. */
  readonly began: boolean;
  readonly register?: RegisterDisk;
  readonly confirmed?: VoterList;
  /** Highest epoch of a leader that was heard of. */
  readonly epoch: Epoch;
}

/** Reads everything; makes disk id and session where there is none, durably. */
export async function remember(files: Files, ids: Ids, durable: Durable, bootId: string): Promise<Remembered> {
  const read = async <T>(path: string): Promise<T | undefined> => {
    const text = await files.read(path);
    if (text === undefined) return undefined;
    try {
      const value = JSON.parse(text) as T;
      durable.known(path, text);
      return value;
    } catch (cause) {
      const how = "Move the keeper's folder away: it then comes back as a new voter, and its session is over.";
      throw new VirgaError('setup', { detail: `The keeper's file ${path} is damaged`, how }, { cause });
    }
  };
  const hosts = new Map<Uuid, HostRecord>();
  for (const file of await files.list('hosts')) {
    const id = file.replace(/\.json$/, '');
    const record = await read<HostRecord>(paths.host(id));
    if (record) hosts.set(id, record);
  }
  const self = await read<Pick<VoterDisk, 'diskId' | 'epoch' | 'list'>>(paths.voter);
  const voter: VoterDisk = { ...(self ?? { diskId: ids.uuid(), epoch: noEpoch }), hosts };
  const kept = await read<KeptSession>(paths.session);
  const began = kept?.bootId !== bootId;
  const session =
    kept && !began ? { number: kept.number, id: kept.id } : { number: (kept?.number ?? 0) + 1, id: ids.uuid() };
  const register = await read<RegisterDisk>(paths.register);
  const confirmed = await read<VoterList>(paths.confirmed);
  const epoch = (await read<Epoch>(paths.epoch)) ?? noEpoch;
  const { hosts: _, ...own } = voter;
  await durable.put(paths.voter, JSON.stringify(own));
  await durable.put(paths.session, JSON.stringify({ ...session, bootId }));
  return { voter, session, began, ...(register ? { register } : {}), ...(confirmed ? { confirmed } : {}), epoch };
}
