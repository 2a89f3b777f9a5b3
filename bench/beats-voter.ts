/**
 * A voter that answers every beat, as a process of its own: FOLDER with `voter.json`. Says its address when it hears, and
 * its counts when it is told to end.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BootTime } from '../src/effects/boottime.ts';
import { openLog } from '../src/effects/log.ts';
import { openWire, type WireIdentity } from '../src/effects/wire/index.ts';
import type { Beat, BeatAnswer } from '../src/core/ha/types.ts';

const [folder = ''] = process.argv.slice(2);
const { self, siteId, identity } = JSON.parse(readFileSync(join(folder, 'voter.json'), 'utf8')) as {
  self: string;
  siteId: string;
  identity: WireIdentity;
};
const version = { forced: 0, epoch: { number: 0, id: '' }, number: 1 };
const answerTo = ({ session, sentAt, askMs }: Beat): BeatAnswer => ({
  type: 'beat-answer',
  session,
  sentAt,
  askMs,
  yes: true,
  epoch: { number: 3, id: self },
  diskId: self,
  version,
});

process.env['VIRGA_LOG'] ??= 'error';
const clock = new BootTime();
const wire = await openWire({ self, siteId, identity, listen: ['127.0.0.1:0'], clock, log: openLog('voter') });
wire.onMessage((from, message) => {
  if (message.type === 'beat') wire.send(from.id, answerTo(message));
});
process.stdout.write(`${wire.addresses()[0] ?? ''}\n`);
process.once('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(wire.stats())}\n`);
  void wire.close();
});
