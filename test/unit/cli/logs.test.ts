/** What a guest writes must not reprogram the terminal of who reads it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { processIo } from '../../../src/cli/io.ts';
import { forScreen } from '../../../src/cli/logs.ts';

const screen = (isTTY: boolean) => {
  const io = processIo();
  return { io: { ...io, stdout: Object.assign(Object.create(io.stdout) as typeof io.stdout, { isTTY }) } };
};
const hostile =
  'a\u001b[2J\u001b[6nb\u001b]0;title\u0007c\u001b]52;c;QUJD\u001b\\d\u0007e\r\n\tf\u001bcg\u009bh\u007fi é';

test('on a terminal control sequences are left out', () => {
  assert.equal(forScreen(screen(true), Buffer.from(hostile), false).toString(), 'abcde\n\tfghi é');
});

test('files, pipes and --raw get the bytes as they are', () => {
  assert.equal(forScreen(screen(false), Buffer.from(hostile), false).toString(), hostile);
  assert.equal(forScreen(screen(true), Buffer.from(hostile), true).toString(), hostile);
});
