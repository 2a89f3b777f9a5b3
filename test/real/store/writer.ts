/**
 * A controller that only commits: started by `crash.test.ts` with the folder of the database's socket and the first
 * number to write. Says `acked N` only after the store has answered.
 */
import { writeSync } from 'node:fs';
import { Database } from '../../../src/controller/store/database.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import { lead, uuid } from '../../unit/store/samples.ts';
import { batch } from './batch.ts';
import { quiet } from './kit.ts';

const [socketFolder = '', first = '1'] = process.argv.slice(2);
const database = new Database({ socketFolder, user: 'virga', database: 'virga' }, { log: quiet });
const store = await PgStore.open(database, { newSite: { id: uuid(0), name: 'test' } });
const { site } = await lead(store);
writeSync(1, 'leads\n');
for (let number = Number(first); number < Number(first) + 1000; number += 1) {
  const result = await store.commit(batch(site.epoch, number));
  if (!result.ok) throw new Error(`refused: ${result.why}`);
  writeSync(1, `acked ${number}\n`);
}
