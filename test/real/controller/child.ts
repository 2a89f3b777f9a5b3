/** A controller as a process of its own, so that a test can kill it: DATA-FOLDER SOCKET DATABASE-URL. */
import { writeSync } from 'node:fs';
import { runController } from '../../../src/controller/main.ts';
import { quiet } from '../store/kit.ts';

const [dataDir = '', socketPath = '', databaseUrl = ''] = process.argv.slice(2);
const controller = await runController({ dataDir, socketPath, databaseUrl, siteName: 'test', log: quiet });
process.once('SIGTERM', () => {
  controller.stop().then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
await Promise.race([controller.leading, controller.failed]);
writeSync(1, 'leads\n');
