/** `node src/docs.ts --write`: makes the reference pages from the program. Without --write: names those that are out of date. */
import { outdated, pages, programToRead, writePages } from './cli/reference.ts';
import { local } from './local.ts';

const all = pages(programToRead(local));
if (process.argv.includes('--write')) writePages(undefined, all);
else {
  const stale = outdated(undefined, all);
  for (const path of stale) process.stderr.write(`${path} is out of date\n`);
  process.exitCode = stale.length > 0 ? 1 : 0;
}
