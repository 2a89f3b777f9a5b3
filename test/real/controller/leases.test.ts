/** Witnesses, and the settings that leases follow, over a real controller, its database and TLS. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { after, before, test } from 'node:test';
import { join, tellKeeper } from '../../../src/agent/join.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { code, site, type Site } from './kit.ts';

let here: Site;
let folder: string;

before(async () => {
  folder = await mkdtemp(path(tmpdir(), 'virga-witness-'));
  here = await site();
});
after(async () => {
  await here.stop();
  await rm(folder, { recursive: true, force: true });
});

const said = { diskId: '7d53a26c-a7fa-4774-89eb-8b91019c7cf4', addresses: ['192.0.2.9:7444'], version: '1.0.0' };

test('a witness joins by its invitation, and says where it hears beats; a host must not say that', async () => {
  const joined = async (name: string, witness: boolean) => {
    const body = { hostName: name, ...(witness ? { role: 'witness' as const } : {}) };
    const { secret } = await here.client.call('host.invite', { body });
    const files = durableFiles(path(folder, name));
    return join({ url: here.url, token: secret, files, agentVersion: '1.0.0' });
  };
  const { credentials } = await joined('w1', true);
  await tellKeeper(credentials, said);
  await tellKeeper(credentials, said);
  const w1 = await here.client.call('host.show', { params: { host: 'w1' } });
  assert.equal(w1.spec.role, 'witness');
  assert.deepEqual(w1.status.keeper, said);
  const { items } = await here.client.call('site.events', { query: { subject: 'w1', type: 'host.keeper' } });
  assert.equal(items.length, 1, 'the same said again is no news');
  await assert.rejects(tellKeeper(credentials, { ...said, addresses: [] }), code('invalid_request'));
  const host = await joined('h1', false);
  await assert.rejects(tellKeeper(host.credentials, said), code('forbidden'));
  assert.equal((await here.client.call('host.show', { params: { host: 'h1' } })).status.keeper, undefined);
});

test('settings, hold and fence devices outlive the controller; secrets are not taken', async () => {
  await here.client.call('site.set', { body: { lease: { lengthMs: 3000 }, onHostLeave: 'stop' } });
  await here.client.call('site.hold', { body: { reason: 'new switch' } });
  const fence = [{ agent: 'fence_apc', parameters: { ip: '192.0.2.40', plug: '7', password_file: 'strip' } }];
  await here.client.call('host.change', { params: { host: 'h1' }, body: { fence } });
  const open = [{ agent: 'fence_apc', parameters: { password: 'secret' } }];
  await assert.rejects(
    here.client.call('host.change', { params: { host: 'h1' }, body: { fence: open } }),
    code('invalid_request'),
  );
  await here.restart();
  const settings = await here.client.call('site.settings');
  assert.deepEqual(
    [settings.leaseProfile, settings.lease.lengthMs, settings.onHostLeave, settings.hold?.reason],
    ['own', 3000, 'stop', 'new switch'],
  );
  assert.equal((await here.client.call('site.status')).hold?.who, settings.hold?.who);
  assert.deepEqual((await here.client.call('host.show', { params: { host: 'h1' } })).spec.fence, fence);
  await here.client.call('site.release', { body: {} });
  assert.equal((await here.client.call('site.settings')).hold, undefined);
});

test('leases are shown from the beginning, and what cannot be done yet is refused with what to do', async () => {
  const view = await here.client.call('lease.show');
  assert.equal(view.leadership, 'alone');
  assert.deepEqual(
    view.hosts.map(({ host, role, voter }) => [host, role, voter]),
    [
      ['h1', 'host', false],
      ['w1', 'witness', false],
    ],
  );
  const survivors = { hosts: ['h1'], confirm: 'h1', reason: 'fire' };
  await assert.rejects(here.client.call('voter.force', { body: survivors }), code('invalid_request'));
  const word = { confirm: 'h1', reason: 'unplugged' };
  await assert.rejects(here.client.call('host.declare', { params: { host: 'h1' }, body: word }), (error: unknown) =>
    ['no_majority', 'invalid_request'].includes(error instanceof VirgaError ? error.code : ''),
  );
  const metrics = await (await here.client.raw('health.metrics')).body.text();
  assert.match(metrics, /^virga_host_leases\{state="held"\} 0$/m);
});
