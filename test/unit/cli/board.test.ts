/** The live view and progress: pure pictures. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { GuestView, HostLeaseView } from '../../../src/api/schemas.ts';
import * as fc from 'fast-check';
import { LiveBoard, renderBoard } from '../../../src/cli/ui/board.ts';
import { bar, ByteProgress, Rate } from '../../../src/cli/ui/progress.ts';
import { widthOf } from '../../../src/cli/ui/table.ts';
import { at, guest, host } from './documents.ts';

const now = Date.parse(at) + 60_000;

function sample() {
  const h1 = host('h1');
  const h2 = host('h2', { status: { ...host('x').status, state: 'silent' } });
  const on = (id: string) => ({ hostId: id, epoch: 1, generation: 1, placedAt: at, reasons: [] });
  return {
    site: 'lab',
    now,
    hosts: [h2, h1],
    guests: [
      guest('web-10', { status: { placement: on(h1.id) } }),
      guest('web-9', { status: { placement: on(h1.id) } }),
      guest('db', { status: { state: 'unknown', stateReason: 'host h2 is silent', placement: on(h2.id) } }),
      guest('new', { status: { state: 'pending', unplaced: ['no host has 9 CPUs'] } }),
    ],
  };
}

test('the board shows hosts, then guests that want attention first, names in natural order', () => {
  const lines = renderBoard(sample(), 100);
  assert.match(lines[0] ?? '', /^lab {2}2 hosts, 2 of 4 guests running {2}03:05:05 UTC$/);
  assert.match(lines[2] ?? '', /^● h1 +2 guests +CPU █·········  12 %/);
  assert.match(lines[3] ?? '', /^○ h2 +1 guest .*silent/);
  const names = lines.slice(6).map((line) => line.split(' ')[0]);
  assert.deepEqual(names, ['db', 'new', 'web-9', 'web-10']);
  assert.match(lines[7] ?? '', /no host has 9 CPUs/);
});

test('the board says which leases are not well, and which guests stand frozen', () => {
  const state = sample();
  const [h2, h1] = state.hosts;
  assert.ok(h1 && h2);
  const lease = (hostId: string, state: HostLeaseView['state']): HostLeaseView => ({
    hostId,
    host: 'x',
    role: 'host',
    state,
    voter: true,
    sealedVotes: 1,
    votes: 3,
  });
  const leases = new Map([
    [h1.id, lease(h1.id, 'lapsed')],
    [h2.id, lease(h2.id, 'sealing')],
  ]);
  const observed: GuestView['status']['observed'] = {
    engine: 'running',
    observedAt: at,
    generation: 1,
    frozen: true,
    restarts: 0,
    startSeq: 1,
    rebootSeq: 0,
    rebuildSeq: 0,
    revertSeq: 0,
    addresses: [],
    snapshots: [],
  };
  const frozen = guest('cold', { status: { state: 'paused', observed } });
  const lines = renderBoard({ ...state, guests: [frozen], leases }, 120).join('\n');
  assert.match(lines, /● h1 .*lease lapsed/);
  assert.match(lines, /○ h2 .*lease sealing 1\/3, silent/);
  assert.match(lines, /cold +paused .*frozen with the lease of its host/);
  const well = renderBoard({ ...state, leases: new Map([[h1.id, lease(h1.id, 'held')]]) }, 120).join('\n');
  assert.doesNotMatch(well, /lease/, 'what is as it should be is not worth a word');
});

test('no line is wider, and the board no higher, than what it was given', () => {
  const state = sample();
  const guests = Array.from({ length: 80 }, (_, index) => guest(`a-rather-long-name-of-a-guest-${index}`));
  fc.assert(
    fc.property(
      fc.integer({ min: 60, max: 200 }),
      fc.integer({ min: 14, max: 60 }),
      fc.boolean(),
      (width, height, broken) => {
        const lines = renderBoard(
          { ...state, guests, messages: ['one', 'two'], ...(broken ? { brokenSince: now - 5000 } : {}) },
          width,
          undefined,
          height,
        );
        assert.ok(lines.length <= height, `${lines.length} > ${height}`);
        for (const line of lines) assert.ok(widthOf(line) <= width, line);
      },
    ),
  );
});

test('the board is drawn over the one before, and nothing of it is left when it becomes shorter', () => {
  const stream = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 });
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')));
  const board = new LiveBoard({
    stdin: new PassThrough(),
    stdout: stream,
    stderr: stream,
    env: { NO_COLOR: '1' },
    interrupted: new AbortController().signal,
  });
  const state = sample();
  board.draw(state);
  const height = renderBoard(state, 80, undefined, 23).length;
  board.draw({ ...state, guests: [] });
  board.close();
  stream.read();
  assert.ok(text.includes(`\u001b[${height}A`), 'it goes up over the first board');
  assert.ok(text.includes('\u001b[J'), 'what is left below is cleared');
  assert.ok(text.endsWith('\u001b[?25h'), 'the cursor comes back');
});

test('a bar fits its width and says speed and remaining time', () => {
  assert.match(
    bar('debian', 512, 1024, 128, 100),
    /^debian {2}\[█+·+\] {3}50 % {2}512 B of 1 KiB {2}128 B\/s {2}4 s left$/,
  );
  fc.assert(
    fc.property(
      fc.string(),
      fc.nat(),
      fc.nat(),
      fc.nat(),
      fc.integer({ min: 20, max: 200 }),
      (label, done, total, speed, width) => widthOf(bar(label, done, total, speed, width)) <= width,
    ),
  );
});

test('speed is of the last ten seconds', () => {
  const rate = new Rate();
  rate.add(0, 0);
  rate.add(1_000_000, 1000);
  for (let second = 2; second <= 20; second += 1) rate.add(1_000_000 + second * 10, second * 1000);
  assert.equal(Math.round(rate.perSecond), 10);
});

test('without a terminal progress is one line per tenth', () => {
  const stream = new PassThrough();
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')));
  const progress = new ByteProgress(
    { stdin: new PassThrough(), stdout: stream, stderr: stream, env: {}, interrupted: new AbortController().signal },
    'x',
    1000,
    false,
  );
  for (let done = 0; done <= 1000; done += 5) progress.at(done, done);
  progress.finish();
  stream.read();
  assert.equal(text.trim().split('\n').length, 11);
});
