/** Lists of voters: every step on the way from one to another shares a voter with the list before it, in every majority. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { compareVersions, keyOf, majorityOf, nextVoters, overlap, totalVotes } from '../../../src/core/ha/list.ts';
import type { ListVersion, Voter } from '../../../src/core/ha/types.ts';

const voter = (name: string, diskId = 'first', votes = 1): Voter => ({
  keeperId: name,
  diskId,
  name,
  votes,
  addresses: [`${name}:7444`],
});
const names = ['alder', 'birch', 'cedar', 'dogwood', 'elm', 'fir', 'ginkgo'];

const odd = fc
  .record({
    chosen: fc.subarray(names, { minLength: 1 }),
    wiped: fc.subarray(names),
  })
  .filter(({ chosen }) => chosen.length % 2 === 1)
  .map(({ chosen, wiped }) => chosen.map((name) => voter(name, wiped.includes(name) ? 'second' : 'first')));

test('each step overlaps with the one before, and the way ends at what was wished', () => {
  fc.assert(
    fc.property(odd, odd, (from, to) => {
      let present: readonly Voter[] = from;
      for (let step = 0; step < 40; step += 1) {
        const next = nextVoters(present, to);
        if (!next) break;
        assert.ok(overlap(present, next), `${present.map(keyOf).join()} → ${next.map(keyOf).join()}`);
        present = next;
      }
      assert.deepEqual(present.map(keyOf).toSorted(), to.map(keyOf).toSorted());
      assert.equal(totalVotes(present), to.length);
    }),
    { numRuns: 300 },
  );
});

test('one voter becomes three, and three become one, without a list of two', () => {
  const [a, b, c] = [voter('alder'), voter('birch'), voter('cedar')];
  const first = nextVoters([a], [a, b, c]);
  assert.deepEqual(
    first?.map(({ votes }) => votes),
    [2, 1, 1],
  );
  assert.equal(majorityOf(first ?? []), 3, 'alder is in every majority of it');
  assert.deepEqual(nextVoters(first ?? [], [a, b, c]), [a, b, c]);
  const back = nextVoters([a, b, c], [a]);
  assert.equal(back?.find(({ name }) => name === 'alder')?.votes, 2);
  assert.deepEqual(nextVoters(back ?? [], [a]), [a]);
});

test('two lists that could each have a majority without the other do not overlap', () => {
  const [a, b, c] = [voter('alder'), voter('birch'), voter('cedar')];
  assert.ok(!overlap([a, b, c], [voter('alder', 'second'), voter('birch', 'second'), c]));
  assert.ok(!overlap([a], [b]));
  assert.ok(!overlap([a], [a, b, c]), 'birch and cedar are a majority of three without alder');
});

test('versions: by hand before epoch before number', () => {
  const version = (forced: number, epoch: number, id: string, number: number): ListVersion => ({
    forced,
    epoch: { number: epoch, id },
    number,
  });
  const rising = [
    version(0, 1, 'a', 9),
    version(0, 1, 'b', 1),
    version(0, 2, 'a', 1),
    version(0, 2, 'a', 2),
    version(1, 1, 'a', 1),
  ];
  for (const [index, each] of rising.entries())
    for (const [other, that] of rising.entries())
      assert.equal(Math.sign(compareVersions(each, that)), Math.sign(index - other));
});
