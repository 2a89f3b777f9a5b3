/** Which images this controller takes from which other one. */
import type { Clock, Log } from '../ports.ts';
import type { ServerIdentity } from './ca.ts';
import type { Colleagues } from './colleagues.ts';
import { ImageCopies } from './images/copies.ts';
import type { ImageFiles } from './images/types.ts';
import type { SiteState } from './state.ts';

export interface CopyingOptions {
  /** Of the image files. */
  readonly folder: string;
  readonly files: ImageFiles;
  readonly state: SiteState;
  readonly colleagues: Colleagues;
  /** What calls the others; undefined while there is none. */
  readonly own: () => { readonly identity: ServerIdentity; readonly ca: string } | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Who leads takes what it lacks from anybody; who stands by follows the leader. */
export function imageCopies({ folder, files, state, colleagues, own, clock, log }: CopyingOptions): ImageCopies {
  return new ImageCopies({
    folder,
    files,
    clock,
    log: log.child({ part: 'images' }),
    sources: () => {
      const { others, leader } = colleagues;
      if (state.leadership === 'leading') return others.flatMap(({ urls }) => urls.slice(0, 1));
      return leader === undefined ? [] : [leader];
    },
    identity: () => {
      const mine = own();
      return mine && { certificate: mine.identity.certificate, key: mine.identity.key, ca: mine.ca };
    },
    wanted: () => (state.leadership === 'leading' ? neededImages(state) : undefined),
  });
}

/** Images that the site needs, as its state has them. */
export function neededImages(state: SiteState): { readonly sha512: string; readonly sizeBytes: number }[] {
  return [...state.snapshot.all('image')].flatMap(({ status }) =>
    status.stored ? [{ sha512: status.stored.sha512, sizeBytes: status.stored.sizeBytes }] : [],
  );
}
