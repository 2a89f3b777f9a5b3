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
      // It may hold secrets: mkdtemp's folder is ours alone, also while the tool writes with rights of its own choice.
      const work = await mkdtemp(join(folder, 'seed-'));
      try {
        const content = join(work, 'content');
        await mkdir(content);
        for (const [name, text] of Object.entries(seedContent(order, networks, instanceId)))
          await writeFile(join(content, name), text, { mode: 0o644 });
        const made = join(work, 'seed.iso');
        const options = ['-as', 'genisoimage', '-quiet', '-V', 'cidata', '-J', '-r'];
        await run('xorriso', [...options, '-o', made, content], timeoutMs);
        // For the emulator's user, to whom libvirt gives it, and nobody else.
        await chmod(made, 0o600);
        await rename(made, path);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
      return path;
    },
  };
}
