import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VoterFact } from '../../../src/core/ha/propose.ts';
import { proposeVoters } from '../../../src/core/ha/propose.ts';

function fact(name: string, more: Partial<VoterFact> = {}): VoterFact {
  return { keeperId: name, name, role: 'host', labels: {}, well: true, voter: false, ...more };
}
const hosts = (count: number, more: Partial<VoterFact> = {}): VoterFact[] =>
  Array.from({ length: count }, (_, index) => fact(`h${index + 1}`, more));
const witness = fact('w', { role: 'witness' });

test('all hosts of a small site, and a witness where they are even in number', () => {
  assert.deepEqual(proposeVoters([]).voters, []);
  assert.deepEqual(proposeVoters(hosts(1)).voters, ['h1']);
  assert.deepEqual(proposeVoters([...hosts(1), witness]).voters, ['h1'], 'a list is never two');
  assert.deepEqual(proposeVoters([...hosts(2), witness]).voters, ['h1', 'h2', 'w']);
  assert.deepEqual(proposeVoters([...hosts(3), witness]).voters, ['h1', 'h2', 'h3']);
  assert.deepEqual(proposeVoters([...hosts(6), witness]).voters.length, 7);
  assert.deepEqual(proposeVoters(hosts(7)).voters.length, 7);
});

test('two hosts without a witness: the one that votes goes on alone, and the site says what it wants', () => {
  const { voters, sentences } = proposeVoters([fact('a'), fact('b', { voter: true, well: false })]);
  assert.deepEqual(voters, ['b']);
  assert.match(sentences[0] ?? '', /^Two hosts want a witness: without one, only b votes, .* guests of a freeze/);
  assert.match(proposeVoters(hosts(4)).sentences[0] ?? '', /^4 hosts want a witness/);
  assert.equal(proposeVoters(hosts(4)).voters.length, 3);
});

test('always odd, at most seven, and never one voter twice', () => {
  for (let count = 1; count <= 20; count += 1)
    for (const witnesses of [0, 1, 2]) {
      const more = Array.from({ length: witnesses }, (_, index) => fact(`w${index}`, { role: 'witness' }));
      const { voters } = proposeVoters([...hosts(count), ...more]);
      assert.equal(voters.length % 2, 1, `${count} hosts`);
      assert.ok(voters.length <= 7 && new Set(voters).size === voters.length);
    }
});

test('a large site spreads its voters over buildings and racks', () => {
  const all = Array.from({ length: 40 }, (_, index) =>
    fact(`h${String(index).padStart(2, '0')}`, {
      labels: { building: index < 30 ? 'a' : 'b', rack: `r${Math.floor(index / 10)}` },
    }),
  );
  const { voters, sentences } = proposeVoters([...all, fact('w', { role: 'witness', labels: { building: 'c' } })]);
  const buildings = Map.groupBy(voters, (id) => (id === 'w' ? 'c' : Number(id.slice(1)) < 30 ? 'a' : 'b'));
  for (const [building, those] of buildings)
    assert.ok(those.length * 2 < voters.length, `${building}: ${those.join(' ')}`);
  assert.equal(buildings.get('c')?.length, 1);
  assert.deepEqual(sentences, []);
});

test('voters that are well stay; one that is away is replaced where another can vote, and else stays', () => {
  const large = hosts(9).map((each) => ({
    ...each,
    voter: ['h3', 'h4', 'h5', 'h6', 'h7', 'h8', 'h9'].includes(each.name),
  }));
  assert.deepEqual(proposeVoters(large).voters, ['h3', 'h4', 'h5', 'h6', 'h7', 'h8', 'h9']);
  const away = large.map((each) => (each.name === 'h5' ? { ...each, well: false } : each));
  assert.deepEqual(proposeVoters(away).voters, ['h1', 'h3', 'h4', 'h6', 'h7', 'h8', 'h9']);
  const small = hosts(3, { voter: true }).map((each) => (each.name === 'h2' ? { ...each, well: false } : each));
  const { voters, sentences } = proposeVoters(small);
  assert.deepEqual(voters, ['h1', 'h2', 'h3']);
  assert.match(sentences[0] ?? '', /^h2 does not answer/);
});

test('a host that never answered is not made a voter', () => {
  assert.deepEqual(proposeVoters([...hosts(3), fact('new', { well: false })]).voters, ['h1', 'h2', 'h3']);
});

test('one failure domain with a majority is thinned where that can be done, and told where not', () => {
  const crowded = hosts(9).map((each, index) => ({
    ...each,
    voter: index < 7,
    labels: { rack: index < 5 ? 'r1' : `r${index}` },
  }));
  const { voters } = proposeVoters(crowded);
  const inFirst = voters.filter((id) => Number(id.slice(1)) <= 5);
  assert.ok(inFirst.length <= 3, voters.join(' '));
  const alike = hosts(3, { labels: { rack: 'r1' } });
  assert.match(proposeVoters(alike).sentences[0] ?? '', /3 voters of 3 share one failure domain/);
});
