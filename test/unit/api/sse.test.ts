import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readEvents, type ServerEvent } from '../../../src/api/sse.ts';

async function parse(...chunks: readonly (string | Uint8Array)[]): Promise<ServerEvent[]> {
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (const chunk of chunks) yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
  }
  const events: ServerEvent[] = [];
  for await (const event of readEvents(bytes())) events.push(event);
  return events;
}

test('events are given when their empty line has come, wherever the chunks break', async () => {
  const text = 'event: put\nid: 7\ndata: {"a":1}\n\n';
  for (let at = 1; at < text.length; at += 1)
    assert.deepEqual(await parse(text.slice(0, at), text.slice(at)), [{ event: 'put', id: '7', data: '{"a":1}' }]);
  assert.deepEqual(await parse('data: unfinished\n'), []);
});

test('comments and fields that nobody knows are passed over; the id stays until another comes', async () => {
  assert.deepEqual(await parse(': beat\n\nretry: 1000\nid: 3\n\ndata: x\n\ndata: y\nid: 4\n\n'), [
    { event: 'message', id: '3', data: 'x' },
    { event: 'message', id: '4', data: 'y' },
  ]);
});

test('several data lines are one text, and a character may be split between chunks', async () => {
  const bytes = Buffer.from('data: grün\ndata: blau\n\n');
  const at = bytes.indexOf(0xc3) + 1;
  assert.deepEqual(await parse(bytes.subarray(0, at), bytes.subarray(at)), [
    { event: 'message', id: '', data: 'grün\nblau' },
  ]);
});

test('an endless event is refused', async () => {
  const chunk = 'x'.repeat(9 * 1024 * 1024);
  await assert.rejects(parse(...Array.from({ length: 8 }, () => chunk)), /larger than 64 MiB/);
});
