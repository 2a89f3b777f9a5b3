/** The controller of a bench: DATA-FOLDER SOCKET DATABASE-URL. Its hosts are data only, so silence is never called. */
import { writeSync } from 'node:fs';
import { runController } from '../src/controller/main.ts';
import { openLog } from '../src/effects/log.ts';

const never = 1e12;
const [dataDir = '', socketPath = '', databaseUrl = ''] = process.argv.slice(2);
process.env['VIRGA_LOG'] ??= 'warn';
const log = openLog('controller');
const controller = await runController({ dataDir, socketPath, databaseUrl, silentAfterMs: never, log });
process.once('SIGTERM', () => {
  controller.stop().then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
await Promise.race([controller.leading, controller.failed]);
writeSync(1, 'leads\n');
