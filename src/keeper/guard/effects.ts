/** The guard's effects on real groups. All of them are synchronous: nothing may come between looking and doing. */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GuardEffects, GuardKept } from '../../core/ha/guard.ts';
import { hostGroup, isSessionGroup } from '../../core/ha/groups.ts';
import { errno } from '../../effects/disk.ts';
import { eventsOf } from '../cgroup.ts';

/** Gone groups need no freezing, and no thawing. */
function write(path: string, word: string): void {
  try {
    writeFileSync(path, word);
  } catch (error) {
    if (!['ENOENT', 'ENODEV'].includes(errno(error) ?? '')) throw error;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENODEV'].includes(errno(error) ?? '')) return undefined;
    throw error;
  }
}

const deadlineFile = 'deadline.json';

interface File extends GuardKept {
  readonly bootId: string;
}

export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** What the last guard of this boot kept: times of another boot mean nothing. */
export function readKept(folder: string, boot: string): GuardKept | undefined {
  const text = read(join(folder, deadlineFile));
  if (text === undefined) return undefined;
  try {
    const { bootId, session, deadline } = JSON.parse(text) as Partial<File>;
    if (bootId !== boot || typeof deadline !== 'number' || typeof session?.number !== 'number') return undefined;
    return { session, deadline };
  } catch {
    return undefined;
  }
}

export function groupEffects(options: {
  readonly root: string;
  readonly hostId: string;
  /** In /run, and there: it need not survive the boot whose clock it tells. */
  readonly folder: string;
  readonly now: () => number;
}): GuardEffects {
  const base = join(options.root, hostGroup(options.hostId));
  const boot = bootId();
  const file = join(options.folder, deadlineFile);
  return {
    now: options.now,
    groups() {
      try {
        return readdirSync(base).filter(isSessionGroup);
      } catch (error) {
        if (errno(error) === 'ENOENT') return [];
        throw error;
      }
    },
    freezing: (group) => read(join(base, group, 'cgroup.freeze'))?.trim() !== '0',
    frozen: (group) => eventsOf(join(base, group))?.frozen ?? true,
    freeze: (group) => write(join(base, group, 'cgroup.freeze'), '1'),
    thaw: (group) => write(join(base, group, 'cgroup.freeze'), '0'),
    kill(group, guestIds) {
      for (const id of guestIds) write(join(base, group, id, 'cgroup.kill'), '1');
    },
    keep(kept) {
      const whole: File = { bootId: boot, ...kept };
      writeFileSync(`${file}.tmp`, JSON.stringify(whole), { mode: 0o600 });
      renameSync(`${file}.tmp`, file);
    },
  };
}
