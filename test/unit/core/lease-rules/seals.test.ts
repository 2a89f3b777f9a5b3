/** Seals and leaders (host-lease, rules 2, 4, 5, 7, 8): one rule left out, and a lost host lives, or nobody leads. */
import assert from 'node:assert/strict';
import type { Rules } from '../../../../src/core/ha/rules.ts';
import { boundMs, cut, higher, lengthMs, proves, World, type Mail } from './kit.ts';

const voters = ['A', 'B', 'C'];
const neverBoth = 'no guest runs in a session that was proved over';

/** A host with a lease, and a leader. */
function begun(rules: Rules): { world: World; first: ReturnType<World['leader']> } {
  const world = new World(rules);
  const first = world.leader('L1');
  const host = world.host();
  world.run(2 * lengthMs);
  assert.ok(first.leads && host.runs);
  return { world, first };
}

const isSeal = ({ message }: Mail, attempt: number, epoch?: string): boolean =>
  message.type === 'seal' && message.ballot.attempt === attempt && (!epoch || message.ballot.epoch.id === epoch);

proves([
  {
    rule: 'durableSessions',
    law: 'a host that stays dead after a power cut of the whole site is proved over',
    history: (rules) => {
      const { world, first } = begun(rules);
      world.dead.add('H');
      for (const name of voters) world.restart(name);
      world.run(10 * lengthMs);
      assert.ok(first.leads);
      return world.proved(first);
    },
  },
  {
    rule: 'sealAfterGrant',
    law: `${neverBoth}: a fence device says "off" about a host that holds its lease`,
    history: (rules) => {
      const { world, first } = begun(rules);
      const { session } = world.at(world.hosts, 'H');
      first.declare('H', session, { kind: 'fence', who: 'pdu', reason: 'off', saidAt: 0 });
      world.run(lengthMs);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'oneBallot',
    law: `${neverBoth}: an answer of the first attempt is counted for the second`,
    history: (rules) => {
      const { world, first } = begun(rules);
      // A pause: A seals and says "ran out", late; B and C are not asked in time, and the host comes back.
      world.fate = (mail) => {
        if (cut(mail, 'H', voters)) return 'lost';
        if (isSeal(mail, 1) && mail.to !== 'A') return 'lost';
        return mail.message.type === 'seal-answer' && mail.message.ranOut ? 'late' : 'now';
      };
      world.run(lengthMs + 2 * boundMs + 400);
      assert.ok(world.late.length > 0);
      world.fate = ({ message }) => (message.type === 'seal' ? 'lost' : 'now');
      world.run(2 * lengthMs);
      assert.ok(!first.seals.busy && world.at(world.hosts, 'H').runs, 'the attempt was taken back');
      // A pause once more: a second attempt, in which only C seals; A and B hear the host again before they are asked.
      world.fate = (mail) => {
        if (cut(mail, 'H', voters)) return 'lost';
        return mail.message.type === 'seal' && mail.to !== 'C' ? 'lost' : 'now';
      };
      world.run(lengthMs + 300);
      assert.notEqual(first.seals.attempts.get('H')?.ballot.attempt ?? 1, 1);
      world.fate = (mail) => {
        if (cut(mail, 'H', ['C']) || (mail.message.type === 'seal' && mail.to !== 'C')) return 'lost';
        return mail.message.type === 'withdraw' || mail.message.type === 'poll-answer' ? 'lost' : 'now';
      };
      world.run(boundMs + 200);
      world.deliverLate(() => true);
      world.run(300);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'firstWithdraws',
    law: `${neverBoth}: the next leader takes back what an earlier one has counted`,
    history: (rules) => {
      const { world, first } = begun(rules);
      // Only C hears the host for longer. A and B seal; the first leader has its proof and dies before it tells.
      world.uncommitting.add('L1');
      const told = ({ message }: Mail): boolean => message.type === 'over';
      world.fate = (mail) => (cut(mail, 'C', ['L1']) || cut(mail, 'H', ['A', 'B']) || told(mail) ? 'lost' : 'now');
      world.run(lengthMs - 400);
      world.fate = (mail) => (cut(mail, 'C', ['L1']) || cut(mail, 'H', voters) || told(mail) ? 'lost' : 'now');
      world.run(boundMs + 600);
      assert.ok(world.proved(first));
      world.stalled.add('L1');
      const second = world.leader('L2');
      world.fate = (mail) => {
        const gone = cut(mail, 'L1', voters) || cut(mail, 'H', voters);
        return gone || mail.message.type === 'seal' ? 'lost' : 'now';
      };
      world.run(500);
      assert.ok(second.leads && higher(second.epoch, first.epoch));
      world.fate = (mail) => (cut(mail, 'L1', voters) || mail.message.type === 'seal' ? 'lost' : 'now');
      world.run(lengthMs);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'lateWithdrawals',
    law: `${neverBoth}: a withdrawal of the first leader arrives after the second has counted that seal`,
    history: (rules) => {
      const { world, first } = begun(rules);
      world.fate = (mail) => (cut(mail, 'H', voters) || (isSeal(mail, 1) && mail.to !== 'A') ? 'lost' : 'now');
      world.run(lengthMs + 300);
      assert.ok(world.at(world.voters, 'A').record('H')?.seal);
      // The host comes back at B and C: the first leader takes its seal back, but the word stays on its way.
      world.fate = (mail) => {
        if (mail.message.type === 'withdraw') return 'late';
        return mail.message.type === 'seal' ? 'lost' : 'now';
      };
      world.run(2 * lengthMs);
      assert.ok(world.late.length > 0);
      world.stalled.add('L1');
      const second = world.leader('L2');
      world.fate = (mail) => {
        const gone = cut(mail, 'L1', voters) || cut(mail, 'H', voters);
        return gone || mail.message.type === 'over' ? 'lost' : 'now';
      };
      world.run(4 * lengthMs);
      assert.ok(second.leads && world.proved(second));
      world.deliverLate(({ from }) => from === 'L1');
      world.fate = (mail) => (cut(mail, 'L1', voters) || mail.message.type === 'over' ? 'lost' : 'now');
      world.run(lengthMs);
      assert.ok(higher(second.epoch, first.epoch));
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'votersRefuseLow',
    law: `${neverBoth}: an old leader's late seal is set after its successor took back the others`,
    history: (rules) => {
      const { world, first } = begun(rules);
      // A pause: A seals and says so; the first leader's seal for B is on its way for long, the one for C is lost.
      world.fate = (mail) => {
        if (cut(mail, 'H', voters)) return 'lost';
        if (mail.message.type === 'seal' && mail.to !== 'A') return mail.to === 'B' ? 'late' : 'lost';
        return 'now';
      };
      world.run(lengthMs + 2 * boundMs);
      const attempt = first.seals.attempts.get('H');
      assert.ok(attempt && [...attempt.answers.values()].some(({ ranOut }) => ranOut));
      // It stalls; the host comes back at B and C; the second leader takes the seal of A back.
      world.stalled.add('L1');
      const second = world.leader('L2');
      world.fate = (mail) => {
        const toOthers = mail.message.type === 'withdraw' && mail.to !== 'A';
        const toB = mail.message.type === 'list' && mail.to === 'B';
        return mail.message.type === 'seal' || toOthers || toB ? 'lost' : 'now';
      };
      world.run(3 * lengthMs);
      assert.ok(second.leads && !world.at(world.voters, 'A').record('H')?.seal);
      // B hears the host no more, and the late seal reaches it. The first leader reads its mail.
      world.fate = (mail) => {
        const toB = mail.to === 'B' && (mail.message.type === 'list' || mail.message.type === 'withdraw');
        return toB || cut(mail, 'H', ['B']) ? 'lost' : 'now';
      };
      world.run(lengthMs + 2 * boundMs);
      assert.ok(world.deliverLate(({ to }) => to === 'B') > 0);
      world.run(300);
      return world.doubleRuns.size === 0;
    },
  },
  {
    rule: 'leaderStops',
    law: 'somebody leads again, though the old leader still reaches one voter',
    history: (rules) => {
      const { world } = begun(rules);
      const second = world.leader('L2');
      world.dead.add('C');
      world.fate = (mail) => (cut(mail, 'L1', ['B']) ? 'lost' : 'now');
      world.run(10 * lengthMs);
      return second.leads;
    },
  },
]);
