import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '../effects/disk.ts';
import { isoImage } from './iso.ts';
import type { Seeds } from './ports.ts';
import { seedContent } from './seed-content.ts';

/** NoCloud media (ISO 9660 with Joliet, label `cidata`). Made at each start, so a power cut may take them. */
export function guestSeeds(dataDir: string): Seeds {
  return {
    async write(order, networks, instanceId) {
      const folder = join(dataDir, 'guests', order.id);
      await mkdir(folder, { recursive: true, mode: 0o711 });
      const path = join(folder, 'seed.iso');
      const temporary = join(folder, 'seed.new');
      const medium = isoImage('cidata', { ...seedContent(order, networks, instanceId) }, new Date());
      try {
        // It may hold secrets: for the emulator's user, to whom libvirt gives it, and nobody else.
        await rm(temporary, { force: true });
        const handle = await open(temporary, 'wx', 0o600);
        try {
          await handle.writeFile(medium);
        } finally {
          await handle.close();
        }
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true });
        throw diskError(error, folder);
      }
      return path;
    },
  };
}
