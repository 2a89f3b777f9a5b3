/** What `virga doctor` says of a host whose keeper answers, hangs, and is gone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leaseFindings } from '../../../src/setup/doctor/lease.ts';
import type { Finding } from '../../../src/setup/doctor/finding.ts';
import { ended, until } from './kit.ts';
import { keeperSite } from './site.ts';

test('the doctor asks keeper and guard of this host, and says what stands in the way', async (t) => {
  const { keepers } = await keeperSite(t, ['keeper']);
  const [host] = keepers;
  assert.ok(host);
  await until('held', async () => (await host.door.state()).lease.state === 'held', 15_000);
  // Other hosts may be simulated on this machine at the same time: then each line names its own.
  const of = async (part: 'keeper' | 'guard'): Promise<Finding> => {
    const findings = await leaseFindings();
    const found =
      findings.find(({ title }) => title === `${part} ${host.id.slice(0, 8)}`) ??
      findings.find(({ title }) => title === part);
    assert.ok(found, `nothing is said of the ${part}`);
    return found;
  };
  const well = await of('keeper');
  assert.deepEqual([well.state, /session 1, lease held/.test(well.found)], ['ok', true]);
  assert.match((await of('guard')).found, /worst lag/);
  const findings = await leaseFindings();
  assert.equal(findings.find(({ title }) => title === 'freezing guests')?.state, 'ok');
  assert.ok(findings.some(({ title }) => title === 'SCHED_FIFO'));

  host.process().kill('SIGSTOP');
  const hung = await of('keeper');
  assert.deepEqual([hung.state, /does not answer/.test(hung.found)], ['warn', true]);
  assert.equal((await of('guard')).state === 'fail', false);
  await ended(host.process());
  assert.equal((await of('keeper')).state, 'warn');
});
