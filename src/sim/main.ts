/** `node src/sim/main.ts FOLDER…`: prints the log of a scenario; `--write` makes it the expected one (look at the difference). */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runScenario, type Start } from './scenario.ts';

const folders = process.argv.slice(2).filter((each) => each !== '--write');
for (const folder of folders) {
  const start = JSON.parse(readFileSync(join(folder, 'start.json'), 'utf8')) as Start;
  const { log } = await runScenario(start, readFileSync(join(folder, 'commands'), 'utf8'));
  if (process.argv.includes('--write')) writeFileSync(join(folder, 'expected.log'), log);
  else process.stdout.write(log);
}
