/** Restarts of keeper and agent (host-lease, rules 9, 10 and 14), on the real loops. */
import assert from 'node:assert/strict';
import { AgentLoop } from '../../../../src/agent/loop.ts';
import { assignment, FakeHost, idOf, order } from '../../agent/fake-host.ts';
import { sessionOf } from '../../agent/fake-keeper.ts';
import { Keeper } from './keeper.ts';
import { cut, lengthMs, proves, World } from './kit.ts';

const voters = ['A', 'B', 'C'];

proves([
  {
    rule: 'durableEpoch',
    law: 'a host whose keeper was restarted obeys no old leader, though the voters that knew the present one are dead',
    history: async (rules) => {
      const world = new World(rules);
      const first = world.leader('L1');
      const there = world.host('X');
      const keeper = new Keeper(world, rules);
      await keeper.begin();
      await keeper.run(2 * lengthMs);
      assert.ok(first.leads && keeper.runs);
      // The second leads by A and B, sees both registers, and starts the guest at X.
      world.stalled.add('L1');
      const second = world.leader('L2');
      world.fate = (mail) => (cut(mail, 'L2', ['C']) ? 'lost' : 'now');
      await keeper.run(2 * lengthMs);
      assert.ok(second.leads && second.registers.mayStart('web', 'X'));
      assert.ok(there.start('web', 2, second.epoch.number));
      // It dies with A and B, and C, which never heard of it, is made the only voter.
      world.dead.add('L2');
      world.byForce('C');
      await keeper.begin();
      await keeper.run(2 * lengthMs);
      assert.ok(keeper.runs && there.runs);
      return !(await keeper.start('web', 1, first.epoch));
    },
  },
  {
    rule: 'restartLowers',
    law: 'a host whose keeper was restarted as planned, and is cut off, stands still when it is proved over',
    history: async (rules) => {
      const world = new World(rules);
      const first = world.leader('L1');
      const keeper = new Keeper(world, rules);
      await keeper.begin();
      await keeper.run(2 * lengthMs);
      assert.ok(first.leads && keeper.runs);
      await keeper.loop.run(AbortSignal.abort());
      await keeper.begin();
      // Three rounds: a lease, "nothing before this beat counts", and one more.
      await keeper.run(lengthMs / 2);
      assert.ok(keeper.runs);
      world.fate = (mail) => (cut(mail, 'H', voters) ? 'lost' : 'now');
      const double = await keeper.run(
        6 * lengthMs,
        () => first.seals.losses.get('H')?.session.id === keeper.session.id && keeper.runs,
      );
      assert.ok(first.seals.losses.has('H'));
      return !double;
    },
  },
  {
    rule: 'startPaused',
    law: 'a start that outlived its agent does not run once its keeper has answered "gone"',
    history: async (rules) => {
      const host = new FakeHost();
      const loop = new AgentLoop(host.ports(), host.identity(), { rules });
      await loop.load();
      // The agent dies after the domain was made, before it is in its group.
      host.refuse = (what) => {
        if (what !== 'enter') return undefined;
        host.stepsLeft = 0;
        return 'the agent died';
      };
      loop.receive(assignment(1, [order(1, { ha: true, diskMode: 'fresh' })], { session: sessionOf(1) }));
      await host.settle(loop).catch(() => undefined);
      assert.ok(host.keeper.entries.has(idOf(1)) && host.domains.has(idOf(1)));
      host.keeper.bar(idOf(1), 1);
      return host.domains.get(idOf(1))?.state !== 'running';
    },
  },
]);
