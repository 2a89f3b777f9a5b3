import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LibvirtError } from '../../../src/libvirt/errors.ts';
import { encodeFrame, FrameParser, MAX_FRAME_BYTES } from '../../../src/libvirt/frame.ts';
import { hex, word } from './bytes.ts';

const GET_STATE = hex(`
  00000024           # length 36, itself included
  20008086 00000001  # main program, version 1
  000000d4           # procedure 212
  00000001 00000007  # reply, serial 7
  00000000           # status ok
  00000001 00000005  # body: state 1, reason 5
`);
const PING = hex('0000001c 6b656570 00000001 00000001 00000002 00000000 00000000');

function isProtocolError(error: unknown): boolean {
  return error instanceof LibvirtError && error.kind === 'protocol';
}

test('a frame in one piece, byte by byte, and two in one chunk', () => {
  const parser = new FrameParser();
  const [whole] = parser.push(GET_STATE);
  assert.ok(whole);
  const { body, ...header } = whole;
  assert.deepEqual(header, { program: 0x20008086, procedure: 212, type: 1, serial: 7, status: 0 });
  assert.deepEqual(body, hex('00000001 00000005'));
  assert.deepEqual(encodeFrame(whole, whole.body), GET_STATE);

  const found = [...GET_STATE].map((byte) => [...parser.push(Buffer.from([byte]))].length);
  assert.deepEqual(found, [...Array.from({ length: GET_STATE.length - 1 }, () => 0), 1]);

  const both = [...parser.push(Buffer.concat([GET_STATE, PING, GET_STATE.subarray(0, 10)]))];
  assert.deepEqual(
    both.map(({ procedure }) => procedure),
    [212, 1],
  );
  assert.ok(parser.midFrame);
  assert.equal([...parser.push(GET_STATE.subarray(10))].length, 1);
  assert.ok(!parser.midFrame);
});

test('lengths and versions that cannot be', () => {
  const refused = [word(0), word(27), word(MAX_FRAME_BYTES + 1), 'ffffffff', '80000000'];
  for (const length of refused) assert.throws(() => [...new FrameParser().push(hex(length))], isProtocolError, length);
  const version = hex('0000001c 20008086 00000002 00000001 00000002 00000000 00000000');
  assert.throws(() => [...new FrameParser().push(version)], /version 2/);
});

test('an announced length takes no memory until its bytes are there', () => {
  const before = process.memoryUsage();
  const parsers = Array.from({ length: 200 }, () => new FrameParser());
  for (const parser of parsers) assert.equal([...parser.push(hex(word(MAX_FRAME_BYTES)))].length, 0);
  const after = process.memoryUsage();
  assert.ok(after.rss - before.rss < 100_000_000, '200 announcements of 32 MiB took memory');
});

test('a large frame in small pieces is joined in linear time', () => {
  const body = Buffer.alloc(8 * 1024 * 1024, 7);
  const bytes = encodeFrame({ program: 1, procedure: 2, type: 3, serial: 4, status: 2 }, body);
  const parser = new FrameParser();
  const started = process.cpuUsage();
  let frames = 0;
  for (let at = 0; at < bytes.length; at += 1024) frames += [...parser.push(bytes.subarray(at, at + 1024))].length;
  assert.equal(frames, 1);
  const { user, system } = process.cpuUsage(started);
  assert.ok(user + system < 2_000_000, `${user + system} µs for 8 MiB in pieces of 1 KiB`);
});
