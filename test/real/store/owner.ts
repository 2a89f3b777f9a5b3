/**
 * A controller that owns an embedded server: started by `embedded.test.ts` with the options as JSON. Says the server's
 * process id, then `acked N` after each commit.
 */
import { writeSync } from 'node:fs';
import { openStore } from '../../../src/controller/store/open.ts';
import type { EmbeddedOptions } from '../../../src/controller/store/embedded.ts';
import { lead, uuid } from '../../unit/store/samples.ts';
import { batch } from './batch.ts';
import { quiet } from './kit.ts';

const options = JSON.parse(process.argv[2] ?? '') as Omit<EmbeddedOptions, 'log'>;
const { store, embedded } = await openStore({ ...options, log: quiet, newSite: { id: uuid(0), name: 'test' } });
const { site, resources } = await lead(store);
writeSync(1, `server ${embedded?.pid}\n`);
for (let number = resources.length + 1; ; number += 1) {
  const result = await store.commit(batch(site.epoch, number));
  if (!result.ok) throw new Error(`refused: ${result.why}`);
  writeSync(1, `acked ${number}\n`);
}
