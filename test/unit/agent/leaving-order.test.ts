/** What the controller sends of guests that it has forgotten must be readable: one bad order would hold up the whole host. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { parseToAgent } from '../../../src/agent/link-messages.ts';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { aHost, TestSite } from '../core/kit.ts';

test('the order to remove what is left of a guest that is no more passes the agent’s checks', () => {
  const host = aHost('h1', { id: randomUUID() });
  const session = { number: 2, id: randomUUID() };
  const leaving = [{ id: randomUUID(), name: 'web-1', generation: 3 }];
  const site = new TestSite([{ ...host, status: { ...host.status, session, leaving } }]);
  const content = assignmentFor(site, host.id);
  assert.ok(content);
  const assignment = { ...content, siteId: randomUUID(), generation: 7 };
  const parsed = parseToAgent(JSON.stringify({ type: 'assignment', assignment }));
  assert.deepEqual(parsed, { ok: true, message: { type: 'assignment', assignment } });
});
