/** Fencing with its real effects, for `main.ts`. */
import { mkdir } from 'node:fs/promises';
import { durableFiles } from '../../effects/files.ts';
import type { Clock, Log } from '../../ports.ts';
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

/** The loop with its history; it does nothing until `run`. Called after privileges were dropped. */
export async function openFencing({ dataDir, ...rest }: FencingOptions): Promise<FenceLoop> {
  const folder = fenceFolder(dataDir);
  await mkdir(folder, { recursive: true, mode: 0o711 });
  const fencer = await openFencer({ dataDir, log: rest.log });
  const loop = new FenceLoop({ ...rest, fencer, files: durableFiles(folder) });
  await loop.load();
  return loop;
}
