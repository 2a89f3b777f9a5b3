/**
 * An agent as its own process on a simulated host, with a folder instead of a controller: it takes its orders from
 * `control/assignment.json` and writes each report to `control/report.json`. Everything else is real.
 * Arguments: data folder, control folder, path of the one image there is.
 */
import { createReadStream } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { watch } from 'node:fs';
import { join } from 'node:path';
import type { Assignment, HostReport } from '../../../src/core/model/assignment.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { systemIds } from '../../../src/effects/ids.ts';
import { tryKvm } from '../../../src/effects/kvm.ts';
import { openLog } from '../../../src/effects/log.ts';
import { sandboxedQemuImg } from '../../../src/effects/qemu-img.ts';
import { assembleAgent, imageFolder, imagesOf } from '../../../src/agent/assemble.ts';
import { openImageCache } from '../../../src/agent/images/cache.ts';
import { loneKeeper } from './lone-keeper.ts';
import { hostId, siteId } from './orders.ts';

const [dataDir = '', control = '', image = ''] = process.argv.slice(2);
const log = openLog('agent');
const cache = await openImageCache(
  { folder: imageFolder(dataDir), maxBytes: 4 * 1024 ** 3, reserveBytes: 0 },
  {
    clock: systemClock,
    log,
    records: durableFiles(imageFolder(dataDir)),
    fetch: (_sha512: string, fromByte: number) =>
      Promise.resolve(createReadStream(image, { start: fromByte }) as AsyncIterable<Uint8Array>),
  },
);
let writing = Promise.resolve();
const link = {
  connected: () => true,
  report(report: HostReport): void {
    writing = writing.then(async () => {
      await writeFile(join(control, 'report.new'), JSON.stringify(report));
      await rename(join(control, 'report.new'), join(control, 'report.json'));
    });
  },
};
const settings = { dataDir, hostId, siteId, agentVersion: '0.0.1', engineType: 'qemu' } as const;
const world = {
  clock: systemClock,
  ids: systemIds,
  files: durableFiles(dataDir),
  log,
  diskTool: sandboxedQemuImg(),
  images: imagesOf(cache),
  keeper: await loneKeeper(hostId, control),
  tryKvm,
};
const agent = await assembleAgent(settings, world, link);
const take = async (): Promise<void> => {
  const text = await readFile(join(control, 'assignment.json'), 'utf8').catch(() => undefined);
  if (text !== undefined) agent.loop.receive(JSON.parse(text) as Assignment);
};
watch(control, (_event, name) => {
  if (name === 'assignment.json') void take();
});
await take();
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
await agent.loop.run(stop.signal);
await agent.engine.close();
await cache.close();
await writing;
process.exit(0);
