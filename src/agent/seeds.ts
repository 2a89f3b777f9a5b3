import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './exec.ts';
import type { Seeds } from './ports.ts';
import { seedContent } from './seed-content.ts';

const timeoutMs = 20_000;

/** NoCloud media (ISO 9660 with Joliet and Rock Ridge, label `cidata`), made by xorriso. */
export function guestSeeds(dataDir: string): Seeds {
  return {
    async write(order, networks, instanceId) {
      const folder = join(dataDir, 'guests', order.id);
      await mkdir(folder, { recursive: true, mode: 0o711 });
      const path = join(folder, 'seed.iso');
      const work = await mkdtemp(join(folder, 'seed-'));
      try {
        const content = seedContent(order, networks, instanceId);
        for (const [name, text] of Object.entries(content)) await writeFile(join(work, name), text, { mode: 0o644 });
        const made = `${path}.new`;
        await rm(made, { force: true });
        await run('xorriso', ['-as', 'genisoimage', '-quiet', '-V', 'cidata', '-J', '-r', '-o', made, work], timeoutMs);
        // It may hold secrets: for the emulator's user, to whom libvirt gives it, and nobody else.
        await chmod(made, 0o600);
        await rename(made, path);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
      return path;
    },
  };
}
