import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplayWindow } from '../../../src/effects/wire/replay.ts';

test('each counter once, in any order within the window', () => {
  const window = new ReplayWindow();
  const order = [3, 1, 2, 255, 100, 258, 4, 600, 345, 599];
  for (const each of order) assert.equal(window.accept(each), true, `${each}`);
  for (const each of order) assert.equal(window.accept(each), false, `${each} again`);
});

test('what is older than the window is refused, what was never seen inside it is not', () => {
  const window = new ReplayWindow();
  assert.equal(window.accept(1000), true);
  assert.equal(window.accept(744), false);
  assert.equal(window.accept(745), true);
  assert.equal(window.accept(0), false);
  assert.equal(window.accept(2 ** 40), true);
  assert.equal(window.accept(2 ** 40 - 255), true);
  assert.equal(window.accept(2 ** 40 - 256), false);
});

test('it agrees with a set of all that was seen', () => {
  const window = new ReplayWindow();
  const seen = new Set<number>();
  let highest = 0;
  // A fixed sequence that jumps back and forth (a linear congruential generator, Numerical Recipes).
  for (let state = 1, step = 0; step < 20_000; step += 1) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    const counter = Math.max(1, Math.floor(step / 2) + (state % 400) - 200);
    const fresh = !seen.has(counter) && counter > highest - 256;
    assert.equal(window.accept(counter), fresh, `${counter} at step ${step}`);
    if (fresh) seen.add(counter);
    highest = Math.max(highest, counter);
  }
});
