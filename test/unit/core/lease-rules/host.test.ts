/** Sessions and the host's own count (host-lease, rules 1, 2, 3): what an earlier life was granted must not count in the next. */
import assert from 'node:assert/strict';
import { Guard } from '../../../../src/core/ha/guard.ts';
import { sessionGroup } from '../../../../src/core/ha/groups.ts';
import { longestMs } from '../../../../src/core/ha/margin.ts';
import type { Rules } from '../../../../src/core/ha/rules.ts';
import { Host } from './host.ts';
import { boundMs, cut, lengthMs, proves, World } from './kit.ts';

const voters = ['A', 'B', 'C'];

/** A host with a lease, a leader, and then grants of 10 s for the session that is about to end. */
function longGrants(rules: Rules, late: boolean): { world: World; host: Host; first: ReturnType<World['leader']> } {
  const world = new World(rules);
  const first = world.leader('L1');
  const host = world.host();
  world.run(2 * lengthMs);
  assert.ok(first.leads && host.runs);
  if (late)
    world.fate = ({ message }) => (message.type === 'beat-answer' && message.askMs === longestMs ? 'late' : 'now');
  host.askMs = longestMs;
  host.beat();
  host.askMs = lengthMs;
  return { world, host, first };
}

/** The planned end of the session; the next one has leases of the usual length. */
function next(world: World, host: Host): void {
  host.ended = true;
  world.run(lengthMs);
  assert.ok(host.session.number === 2 && host.runs);
}

/** The host is cut off; what was on its way to it still comes. */
function cutOff(world: World): void {
  world.fate = (mail) => (cut(mail, 'H', voters) ? 'lost' : 'now');
  world.deliverLate(({ to }) => to === 'H');
  world.run(2 * lengthMs);
}

proves([
  {
    rule: 'beatNumbers',
    law: 'an answer to an earlier life of the keeper prolongs nothing',
    history: (rules) => {
      const { world, host, first } = longGrants(rules, true);
      world.run(50);
      host.restart();
      world.run(lengthMs);
      assert.ok(world.late.length > 0 && host.runs);
      cutOff(world);
      assert.ok(world.proved(first));
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'sessionDeadline',
    law: 'a long lease of the ended session keeps nothing of the next one alive',
    history: (rules) => {
      const { world, host, first } = longGrants(rules, false);
      next(world, host);
      cutOff(world);
      assert.ok(world.proved(first));
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'sessionStatus',
    law: 'a late answer for the ended session keeps nothing of the next one alive',
    history: (rules) => {
      const { world, host, first } = longGrants(rules, true);
      next(world, host);
      cutOff(world);
      assert.ok(world.proved(first));
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'sessionIds',
    law: 'a host that was restored from an old disk, and dies, is proved over',
    history: (rules) => {
      const world = new World(rules, ['C', 'A', 'B']);
      const first = world.leader('L1');
      const host = world.host();
      // C never hears of the first life.
      world.fate = (mail) => (cut(mail, 'H', ['C']) ? 'lost' : 'now');
      world.run(2 * lengthMs);
      assert.ok(host.runs);
      world.fate = () => 'now';
      const restored = new Host(world, 'H', { number: host.session.number, id: 'restored' }, world.list);
      world.hosts.set('H', restored);
      world.run(2 * lengthMs);
      assert.ok(restored.runs);
      world.dead.add('H');
      world.run(4 * lengthMs);
      return world.proved(first);
    },
  },
  {
    rule: 'guardThaws',
    law: 'nothing runs k after the deadline, though the guard stalls between its look and the thaw',
    history: (rules) => {
      const session = { number: 1, id: 'only-session' };
      const group = sessionGroup(session);
      const frozen = new Set([group]);
      let now = 1000;
      const guard = new Guard(
        {
          now: () => now,
          groups: () => [group],
          freeze: (name) => void frozen.add(name),
          thaw: (name) => {
            now += lengthMs + 2 * boundMs;
            frozen.delete(name);
          },
          freezing: (name) => frozen.has(name),
          frozen: (name) => frozen.has(name),
          kill: () => {},
          keep: () => {},
        },
        { boundMs, graceMs: 5000 },
        undefined,
        undefined,
        rules,
      );
      const deadline = now + lengthMs;
      guard.order({ session, deadline, force: false });
      assert.ok(now > deadline + boundMs);
      return frozen.has(group);
    },
  },
]);
