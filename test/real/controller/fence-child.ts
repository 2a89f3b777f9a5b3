/** Runs one device as the user it was started as: `fence-child.ts DATA PROGRAMS off|status JSON` → one line of JSON. */
import { openFencer } from '../../../src/controller/fence/agents.ts';
import type { FenceDevice } from '../../../src/core/model/host.ts';
import { quiet } from '../../unit/controller/kit.ts';

const [dataDir = '', programs = '', what = '', text = ''] = process.argv.slice(2);
const fencer = await openFencer({
  dataDir,
  log: quiet,
  offMs: 3000,
  statusMs: 2000,
  programDirs: [programs, '/usr/sbin'],
});
const device = JSON.parse(text) as FenceDevice;
process.stdout.write(`${JSON.stringify(await (what === 'off' ? fencer.off(device) : fencer.status(device)))}\n`);
