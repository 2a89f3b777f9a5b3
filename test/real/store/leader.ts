/**
 * A controller that only commits, and stands by when it is outbid: started by `stalled.test.ts` with the folder of the
 * database's socket, the number of its epoch, and the first number to write. Says `acked N`, `outbid N`, `refused CODE`.
 */
import { writeSync } from 'node:fs';
import { SiteState } from '../../../src/controller/state.ts';
import { Database } from '../../../src/controller/store/database.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import type { VirgaError } from '../../../src/core/errors.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { epochOf, uuid } from '../../unit/store/samples.ts';
import { batch } from './batch.ts';
import { quiet } from './kit.ts';

const [socketFolder = '', epoch = '1', first = '1'] = process.argv.slice(2);
const database = new Database({ socketFolder, user: 'virga', database: 'virga' }, { log: quiet });
const store = await PgStore.open(database, { newSite: { id: uuid(0), name: 'test' } });
const state = new SiteState({ store, clock: systemClock, log: quiet });
state.onOutbid((number) => void writeSync(1, `outbid ${number}\n`));
await state.claim(epochOf(Number(epoch)));
for (let number = Number(first); number < Number(first) + 1000; number += 1) {
  const { put, events, idempotency } = batch(Number(epoch), number);
  try {
    const { created = [] } = idempotency ?? {};
    const repeat = { who: 'test', key: String(number), requestHash: 'h' };
    await state.change(() => ({ change: { put, remove: [], events }, created }), repeat);
    writeSync(1, `acked ${number}\n`);
  } catch (error) {
    const { code } = error as VirgaError;
    writeSync(1, `refused ${code}\n`);
    if (code === 'not_leading') break;
  }
}
await database.close();
