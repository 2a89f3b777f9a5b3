/**
 * An agent as its own process on libvirt's test driver: DATA-FOLDER LIBVIRT-SOCKET. Its stored assignment is in the data
 * folder; its reports go nowhere. Everything else is real. Says "looked" on standard output after its first reports.
 */
import { writeSync } from 'node:fs';
import { assembleAgent, imageFolder, imagesOf } from '../src/agent/assemble.ts';
import { keeperClient } from '../src/agent/keeper-client.ts';
import { openImageCache } from '../src/agent/images/cache.ts';
import type { HostReport } from '../src/core/model/assignment.ts';
import { systemClock } from '../src/effects/clock.ts';
import { durableFiles } from '../src/effects/files.ts';
import { systemIds } from '../src/effects/ids.ts';
import { openLog } from '../src/effects/log.ts';
import { sandboxedQemuImg } from '../src/effects/qemu-img.ts';
import { hostId, siteId } from '../test/real/agent/orders.ts';

const [dataDir = '', socket = ''] = process.argv.slice(2);
process.env['VIRGA_LOG'] ??= 'error';
const log = openLog('agent');
const files = durableFiles(dataDir);
const cache = await openImageCache(
  { folder: imageFolder(dataDir), maxBytes: 1024 ** 3, reserveBytes: 0 },
  { clock: systemClock, log, records: files, fetch: () => Promise.reject(new Error('no image is needed')) },
);
let reports = 0;
const link = {
  connected: () => true,
  report(report: HostReport): void {
    const seen = report.guests.filter((guest) => guest.engine === 'running').length;
    reports += 1;
    writeSync(1, `report ${reports} ${seen}\n`);
  },
};
const keeper = keeperClient(hostId, 'bench');
const agent = await assembleAgent(
  { dataDir, hostId, siteId, agentVersion: 'bench', engineType: 'qemu', libvirt: { uri: 'test:///default', socket } },
  {
    clock: systemClock,
    ids: systemIds,
    files,
    log,
    diskTool: sandboxedQemuImg(),
    images: imagesOf(cache),
    // None runs here: the guests of this bench are not highly available.
    keeper,
    tryKvm: () => Promise.resolve({ works: false, why: 'not asked' }),
  },
  link,
);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await agent.loop.run(stop.signal);
await agent.engine.close();
await cache.close();
keeper.close();
process.exit(0);
