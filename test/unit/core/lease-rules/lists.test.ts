/** Voter lists that change (host-lease, rules 12 and 15): one rule left out, and a list forgets, freezes, or leaves a host behind. */
import assert from 'node:assert/strict';
import { longestMs, profiles } from '../../../../src/core/ha/margin.ts';
import type { Rules } from '../../../../src/core/ha/rules.ts';
import type { Host } from './host.ts';
import { boundMs, cut, entry, higher, lengthMs, proves, World } from './kit.ts';

const voters = ['A', 'B', 'C'];
const others = ['C', 'D', 'E'];

/** A host with a lease from those of A, B and C that hear it, a leader, and two keepers that may become voters. */
function begun(
  rules: Rules,
  deaf: readonly string[] = [],
): { world: World; first: ReturnType<World['leader']>; host: Host } {
  const world = new World(rules);
  for (const name of ['D', 'E']) world.voter(name);
  const first = world.leader('L1');
  const host = world.host();
  world.fate = (mail) => (cut(mail, 'H', deaf) ? 'lost' : 'now');
  world.run(2 * lengthMs);
  assert.ok(first.leads && host.runs);
  return { world, first, host };
}

const change = (leader: ReturnType<World['leader']>, names: readonly string[]): void =>
  leader.lists.wish(
    names.map((name) => entry(name)),
    profiles.default,
  );

const names = (leader: ReturnType<World['leader']>): string => leader.voters.map(({ name }) => name).join('');

/** A and B die right after a grant of this length; whether the host stands still when C alone proves it over. */
function survivor(rules: Rules, askMs: number): boolean {
  const { world, first, host } = begun(rules);
  world.fate = (mail) => (cut(mail, 'H', ['C']) ? 'lost' : 'now');
  world.run(3 * lengthMs);
  host.askMs = askMs;
  host.beat();
  const madeAt = world.now;
  // Its own majority answers it since it is the only voter.
  world.contactMs = () => world.now - madeAt;
  world.byForce('C');
  const frozenAt = host.lease.deadline() + boundMs;
  world.run(2 * longestMs);
  const lost = first.seals.losses.get('H');
  assert.ok(lost);
  return lost.lostAt >= frozenAt;
}

proves([
  {
    rule: 'overTransfer',
    law: 'a lost host does not come back to life under voters that never heard of it',
    history: (rules) => {
      const { world, first } = begun(rules);
      world.fate = (mail) => {
        const cutOff = cut(mail, 'H', [...voters, ...others]);
        const untold = mail.message.type === 'over' || (mail.message.type === 'seal' && mail.to === 'C');
        return cutOff || untold ? 'lost' : 'now';
      };
      world.run(2 * lengthMs);
      assert.ok(world.proved(first));
      change(first, others);
      world.run(8 * lengthMs);
      assert.equal(names(first) === 'CDE', !rules.overTransfer);
      for (const name of ['A', 'B']) world.dead.add(name);
      world.fate = ({ message }) => (message.type === 'over' ? 'lost' : 'now');
      world.run(4 * lengthMs);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'newVoterAssumes',
    law: 'the survivor that is made the only voter waits for what the dead voters granted',
    history: (rules) => survivor(rules, lengthMs),
  },
  {
    rule: 'newVoterAssumes',
    law: 'also when that was a long lease, for a planned restart',
    history: (rules) => survivor(rules, longestMs),
  },
  {
    rule: 'confirmCovers',
    law: 'a host whose lease rests on the old list is not proved over by the next but one',
    history: (rules) => {
      const { world, first, host } = begun(rules, ['C']);
      host.askMs = longestMs;
      host.beat();
      host.askMs = lengthMs;
      change(first, others);
      world.run(2 * lengthMs);
      assert.equal(names(first) === 'CDE', !rules.confirmCovers);
      world.fate = (mail) => (cut(mail, 'H', [...voters, ...others]) ? 'lost' : 'now');
      world.run(longestMs);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'confirmBeforeNext',
    law: 'a host that the next voters cannot hear keeps the lease of those that it has',
    history: (rules) => {
      const { world, first, host } = begun(rules);
      // They were voters once, and know of it.
      host.beat(['D', 'E']);
      world.fate = (mail) => (cut(mail, 'H', others) ? 'lost' : 'now');
      change(first, others);
      world.run(10 * lengthMs);
      assert.ok(host.runs);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'versionEpoch',
    law: "a host that took another leader's list of the same number gets orders again",
    history: (rules) => {
      const { world, first, host } = begun(rules);
      // The first leader's next list reaches A alone, and through it the host.
      world.fate = (mail) => (mail.from === 'L1' && mail.message.type === 'list' && mail.to !== 'A' ? 'lost' : 'now');
      change(first, [...voters, 'D', 'E']);
      world.run(lengthMs);
      assert.equal(host.lease.list?.voters.length, 4);
      world.stalled.add('L1');
      const second = world.leader('L2');
      world.fate = (mail) => (cut(mail, 'L2', ['A', 'H']) ? 'lost' : 'now');
      world.run(2 * lengthMs);
      assert.ok(second.leads && higher(second.epoch, first.epoch) && names(second) === 'ABC');
      assert.equal(second.list?.version.number, first.list?.version.number);
      world.fate = (mail) => (cut(mail, 'L1', [...voters, 'H']) ? 'lost' : 'now');
      world.run(10 * lengthMs);
      return second.registers.mayOrder('H');
    },
  },
  {
    rule: 'oddLists',
    law: 'a host that was its own majority outlives a second one',
    history: (rules) => {
      const world = new World(rules, ['A']);
      world.voter('B');
      const first = world.leader('L1');
      const host = world.host('A');
      world.run(lengthMs);
      change(first, ['A', 'B']);
      world.run(4 * lengthMs);
      assert.ok(first.leads && host.runs);
      world.dead.add('B');
      world.run(10 * lengthMs);
      return host.runs;
    },
  },
  {
    rule: 'listWithAnswers',
    law: 'a host that hears voters but no controller gets a lease under a list made by force',
    history: (rules) => {
      const world = new World(rules);
      const host = world.host();
      world.run(lengthMs);
      assert.ok(host.runs);
      world.byForce('C');
      world.run(10 * lengthMs);
      return host.runs;
    },
  },
]);
