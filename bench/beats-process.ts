/** Hosts of `bench beats`: reads what they are from its standard input, beats for each, says once a second how it goes. */
import { text } from 'node:stream/consumers';
import { writeSync } from 'node:fs';
import { noVersion } from '../src/core/ha/list.ts';
import type { Beat } from '../src/core/ha/types.ts';
import { BootTime } from '../src/effects/boottime.ts';
import { openLog } from '../src/effects/log.ts';
import { openWire, type WireIdentity } from '../src/effects/wire/index.ts';

export interface BeatingHosts {
  readonly siteId: string;
  readonly voter: { readonly id: string; readonly address: string };
  readonly everyMs: number;
  readonly askMs: number;
  readonly boundMs: number;
  readonly hosts: readonly ({ readonly id: string } & WireIdentity)[];
}

const { siteId, voter, everyMs, askMs, boundMs, hosts } = JSON.parse(await text(process.stdin)) as BeatingHosts;
const clock = new BootTime();
process.env['VIRGA_LOG'] ??= 'error';
const log = openLog('hosts');
const counts = { sent: 0, yes: 0 };

for (const [index, { id, ...identity }] of hosts.entries()) {
  const wire = await openWire({ self: id, siteId, identity, listen: ['127.0.0.1:0'], clock, log });
  wire.onMessage((_from, message) => {
    if (message.type === 'beat-answer' && message.yes) counts.yes += 1;
  });
  const beat = (): void => {
    const message: Beat = {
      type: 'beat',
      hostId: id,
      session: { number: 1, id },
      sentAt: clock.now(),
      askMs,
      boundMs,
      lapsed: false,
      ended: false,
      reset: false,
      confirmed: noVersion,
      list: noVersion,
    };
    counts.sent += 1;
    wire.send(voter.id, message, [voter.address]);
  };
  // Spread over the interval, as hosts that booted at different times are.
  setTimeout(() => setInterval(beat, everyMs), (everyMs * index) / hosts.length);
}
setInterval(() => {
  writeSync(1, `${JSON.stringify(counts)}\n`);
  Object.assign(counts, { sent: 0, yes: 0 });
}, 1_000);
