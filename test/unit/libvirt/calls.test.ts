import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallTable, type Call } from '../../../src/libvirt/calls.ts';
import { LibvirtError } from '../../../src/libvirt/errors.ts';

/** Calls that note what becomes of them. */
function calls(table: CallTable): { log: string[]; add: (serial: number, signal?: AbortSignal) => void } {
  const log: string[] = [];
  const add = (serial: number, signal?: AbortSignal) => {
    const call: Call = {
      serial,
      name: `call ${serial}`,
      number: 1,
      send: () => void log.push(`sent ${serial}`),
      resolve: () => void log.push(`resolved ${serial}`),
      reject: ({ kind }) => void log.push(`${kind} ${serial}`),
    };
    table.add(call, 60_000, signal);
  };
  return { log, add };
}

test('a call that was given up keeps its place until its reply has come', () => {
  const table = new CallTable(1, 8);
  const { log, add } = calls(table);
  const stop = new AbortController();
  add(1, stop.signal);
  add(2);
  stop.abort();
  assert.deepEqual(log, ['sent 1', 'aborted 1'], 'the daemon is still at the first');
  assert.equal(table.take(1), undefined, 'nobody waits for that reply');
  assert.deepEqual(log, ['sent 1', 'aborted 1', 'sent 2']);
  table.take(2)?.resolve(Buffer.alloc(0));
  assert.equal(log.at(-1), 'resolved 2');
  assert.equal(table.size, 0);
});

test('a connection is stuck when every place is held by what nobody waits for', () => {
  const table = new CallTable(2, 8);
  const { add } = calls(table);
  const stop = new AbortController();
  add(1, stop.signal);
  assert.equal(table.stuck(-1), false, 'there is a place left');
  add(2);
  stop.abort();
  assert.equal(table.stuck(-1), false, 'somebody waits for the second');
  table.take(2);
  add(3, AbortSignal.abort());
  assert.equal(table.stuck(-1), false, 'what was aborted before it was sent holds no place');
  const other = new AbortController();
  add(4, other.signal);
  other.abort();
  assert.equal(table.stuck(-1), true);
  assert.equal(table.stuck(60_000), false, 'not for so long yet');
  table.take(1);
  assert.equal(table.stuck(-1), false);
});

test('failing rejects what is on the wire and what waits, once each', async () => {
  const table = new CallTable(1, 8);
  const { log, add } = calls(table);
  add(1);
  add(2);
  const drained = table.drained();
  table.fail(new LibvirtError('closed', 'gone'));
  table.fail(new LibvirtError('closed', 'gone'));
  await drained;
  assert.deepEqual(log, ['sent 1', 'closed 1', 'closed 2']);
});
