/**
 * A process that orders as a keeper does: FOLDER SESSION-NUMBER SESSION-ID LENGTH-MS. Every 100 ms it moves the deadline;
 * each line on standard output is an answer of the guard.
 */
import { BootTime } from '../../../src/effects/boottime.ts';
import { guardClient } from '../../../src/keeper/guard/client.ts';

const [folder = '', number = '', id = '', lengthMs = ''] = process.argv.slice(2);
const clock = new BootTime();
const guard = guardClient(folder);
let seen = 0;
setInterval(() => {
  guard.deadline({ number: Number(number), id }, clock.now() + Number(lengthMs), false);
  const answer = guard.answered();
  if (answer === undefined || answer.at === seen) return;
  seen = answer.at;
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}, 100);
