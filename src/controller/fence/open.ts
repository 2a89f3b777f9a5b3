/** Fencing with its real effects. */
import { mkdir } from 'node:fs/promises';
import { durableFiles } from '../../effects/files.ts';
import type { Clock, Fencer, Log } from '../../ports.ts';
import type { LeaseDoor } from '../lease/view.ts';
import type { SiteState } from '../state.ts';
import { fenceFolder, openFencer } from './agents.ts';
import { FenceLoop } from './loop.ts';

export interface FencingOptions {
  /** The controller's data folder, which its user may write. */
  readonly dataDir: string;
  readonly state: Pick<SiteState, 'snapshot' | 'change'>;
  readonly lease: Pick<LeaseDoor, 'sight' | 'declareDead'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The loop does nothing until `run`. Its folder is made when it is first needed: privileges are dropped by then. */
export function openFencing({ dataDir, ...rest }: FencingOptions): FenceLoop {
  const { log } = rest;
  let opened: Promise<Fencer> | undefined;
  const fencer = async (): Promise<Fencer> => {
    opened ??= mkdir(fenceFolder(dataDir), { recursive: true, mode: 0o711 }).then(async () =>
      openFencer({ dataDir, log }),
    );
    try {
      return await opened;
    } catch (error) {
      opened = undefined;
      log.error('fence agents cannot be run', { detail: String(error) });
      const detail = 'its folder cannot be made; see the log of the controller';
      const unable = async () => Promise.resolve({ power: 'unknown', failure: 'failed', detail, ms: 0 } as const);
      return { off: unable, status: unable };
    }
  };
  const lazy: Fencer = {
    off: async (device, signal) => (await fencer()).off(device, signal),
    status: async (device, signal) => (await fencer()).status(device, signal),
  };
  return new FenceLoop({ ...rest, fencer: lazy, files: durableFiles(fenceFolder(dataDir)) });
}
