/** What a controller says that does not lead: who does, or that no majority of the voters answers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorBody } from '../../../src/api/errors.ts';
import { profiles } from '../../../src/core/ha/margin.ts';
import { noEpoch } from '../../../src/core/ha/types.ts';
import { Metrics } from '../../../src/controller/http/metrics.ts';
import { buildServer } from '../../../src/controller/http/server.ts';
import type { Services } from '../../../src/controller/http/services.ts';
import type { LeaseDoor, LeaseSight } from '../../../src/controller/lease/view.ts';
import { ids, quiet, world } from '../controller/kit.ts';

const sight: LeaseSight = {
  leadership: 'candidate',
  epoch: noEpoch,
  committing: false,
  profile: profiles.default,
  voters: ['h1', 'h2', 'h3'].map((name) => ({
    keeperId: ids.uuid(),
    name,
    votes: 1,
    answers: name === 'h1',
    accepted: false,
    addresses: [],
  })),
  hosts: [],
  barrier: [],
};

/** The answer to "are you ready?" of a controller that stands by. */
async function ready(more: Partial<Services>): Promise<{ error: ErrorBody['error']; retry: unknown }> {
  const { clock, store, state } = world();
  await state.claim(undefined);
  const services = { clock, ids, log: quiet, version: 'test', state, store, metrics: new Metrics(), ...more };
  const { app } = await buildServer(services as unknown as Services);
  try {
    const answer = await app.inject({ method: 'GET', url: '/readyz' });
    assert.equal(answer.statusCode, 503);
    return { ...answer.json<ErrorBody>(), retry: answer.headers['retry-after'] };
  } finally {
    await app.close();
  }
}

const door = (shown: LeaseSight): LeaseDoor => ({
  sight: () => shown,
  detections: () => [],
  wishVoters: () => undefined,
  declareDead: async () => undefined,
  forceVoters: async () => undefined,
});

test('a controller that stands by names the one that leads', async () => {
  const { error, retry } = await ready({ leader: () => 'https://c2.example:7443', lease: door(sight) });
  assert.equal(error.code, 'standby');
  assert.match(error.message, /https:\/\/c2\.example:7443 leads/);
  assert.equal(retry, '1');
});

test('without a majority it says how many answer; with one that has not decided yet, only that it does not lead', async () => {
  const { error } = await ready({ lease: door(sight) });
  assert.deepEqual([error.code, error.values], ['no_majority', { answering: 1, votes: 3 }]);
  const voters = sight.voters.map((each) => ({ ...each, answers: true }));
  assert.equal((await ready({ lease: door({ ...sight, voters }) })).error.code, 'not_leading');
  assert.equal((await ready({})).error.code, 'not_leading');
  const leads = { ...sight, voters, leadership: 'leading' } as const;
  assert.equal((await ready({ lease: door(leads) })).error.code, 'store_unavailable');
});
