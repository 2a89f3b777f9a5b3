/** Registers, orders and the barrier (host-lease, rules 9 and 10): one rule left out, and one guest may run at two hosts. */
import assert from 'node:assert/strict';
import type { Rules } from '../../../../src/core/ha/rules.ts';
import { Register } from '../../../../src/core/ha/register.ts';
import { Host } from './host.ts';
import { cut, higher, lengthMs, proves, World } from './kit.ts';

const guest = 'web';

/** Hosts H and X with leases, and a leader. */
function begun(rules: Rules): { world: World; first: ReturnType<World['leader']>; here: Host; there: Host } {
  const world = new World(rules);
  const first = world.leader('L1');
  const [here, there] = [world.host('H'), world.host('X')];
  world.run(2 * lengthMs);
  assert.ok(first.leads && here.runs && there.runs);
  return { world, first, here, there };
}

/** The next leader: the first is stalled, and reaches nobody. */
function succeed(world: World, ms: number): ReturnType<World['leader']> {
  world.stalled.add('L1');
  const second = world.leader('L2');
  world.run(ms);
  assert.ok(second.leads && higher(second.epoch, world.at(world.leaders, 'L1').epoch));
  return second;
}

/** Asks the leader for the guest's start at X until it may, and carries it out there. */
function startThere(world: World, leader: ReturnType<World['leader']>, there: Host, generation: number): boolean {
  for (let round = 0; round < 40 && !leader.registers.mayStart(guest, 'X'); round += 1) world.run(100);
  return leader.registers.mayStart(guest, 'X') && there.start(guest, generation, leader.epoch.number);
}

/** Both hold a lease, and the guest is registered at both. */
const twice = (world: World, here: Host, there: Host): boolean =>
  [here, there].every((host) => host.register.has(guest) && host.lease.deadline() > world.now);

proves([
  {
    rule: 'epochWithYes',
    law: 'a host that rebooted and reaches only the old leader does not obey it',
    history: (rules) => {
      const { world, first, here, there } = begun(rules);
      assert.ok(here.start(guest, 1, first.epoch.number));
      world.dead.add('H');
      const second = succeed(world, 4 * lengthMs);
      assert.ok(startThere(world, second, there, 2));
      const rebooted = new Host(world, 'H', { number: 2, id: 'second' }, world.list);
      world.hosts.set('H', rebooted);
      world.dead.delete('H');
      world.fate = (mail) => (cut(mail, 'L2', ['H']) ? 'lost' : 'now');
      world.run(lengthMs);
      assert.ok(rebooted.runs);
      rebooted.start(guest, 2, first.epoch.number);
      return !twice(world, rebooted, there);
    },
  },
  {
    rule: 'census',
    law: 'a host that joined, and that the database forgot, holds up a second start of its guest',
    history: (rules) => {
      const { world, first, here, there } = begun(rules);
      assert.ok(here.start(guest, 1, first.epoch.number));
      world.forgotten.add('H');
      const second = succeed(world, 2 * lengthMs);
      startThere(world, second, there, 2);
      return !twice(world, here, there);
    },
  },
  {
    rule: 'barGeneration',
    law: 'an order that was answered as gone is not carried out, though its entry was never on disk',
    history: (rules) => {
      const { world, first, here, there } = begun(rules);
      const { disk } = here.register;
      assert.ok(here.start(guest, 5, first.epoch.number));
      world.run(lengthMs);
      assert.ok(first.registers.keepers.get('H')?.entries.has(guest), 'the leader saw the entry');
      // The keeper dies before the entry is on disk; the leader bars what it saw, and the agent asks once more.
      here.register = new Register(here.session, disk, rules);
      here.restart();
      assert.ok(!first.registers.mayStart(guest, 'X'));
      world.run(100);
      assert.ok(startThere(world, first, there, 6));
      world.run(lengthMs);
      here.start(guest, 5, first.epoch.number);
      return !twice(world, here, there);
    },
  },
  {
    rule: 'generationOnce',
    law: 'an order that comes a second time is not carried out after its guest moved on',
    history: (rules) => {
      const { world, first, here, there } = begun(rules);
      assert.ok(here.start(guest, 5, first.epoch.number));
      world.run(lengthMs);
      assert.ok(startThere(world, first, there, 6));
      here.start(guest, 5, first.epoch.number);
      return !twice(world, here, there);
    },
  },
]);
