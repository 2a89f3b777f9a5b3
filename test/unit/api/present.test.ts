import assert from 'node:assert/strict';
import { test } from 'node:test';
import { etag, present, revisionOf } from '../../../src/api/present.ts';
import { documentBytes } from '../../../src/controller/http/lists.ts';
import * as schemas from '../../../src/api/schemas.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { newValidator } from '../../../src/controller/http/validate.ts';
import { aGuest, aHost, anImage, aNetwork, meta, t0 } from '../core/kit.ts';

const ajv = newValidator();

test('what is presented is what the reference says', () => {
  const host = aHost('alpha');
  const token: AnyResource = {
    ...meta('ci'),
    kind: 'token',
    spec: { secretHash: 'f'.repeat(64), role: 'read', expiresAt: t0 },
    status: { lastUsedAt: t0 },
  };
  const invite: AnyResource = {
    ...meta('invite-1'),
    kind: 'invite',
    spec: { secretHash: 'f'.repeat(64), expiresAt: t0 },
    status: {},
  };
  const samples: readonly (readonly [AnyResource, object])[] = [
    [host, schemas.Host],
    [aGuest('web'), schemas.Guest],
    [anImage('tiny'), schemas.Image],
    [aNetwork('lan'), schemas.Network],
    [token, schemas.Token],
    [invite, schemas.Invite],
  ];
  for (const [resource, schema] of samples) {
    const valid = ajv.compile(schema);
    assert.ok(
      valid(JSON.parse(documentBytes(resource).toString())),
      `${resource.kind}: ${ajv.errorsText(valid.errors)}`,
    );
    assert.ok(!documentBytes(resource).toString().includes('secretHash'));
  }
});

test('instants become RFC 3339, labels that look like instants do not', () => {
  const shown = present({ ...aNetwork('lan'), createdAt: 1000, labels: { madeAt: 'spring' } });
  assert.equal(shown.createdAt, '1970-01-01T00:00:01.000Z');
  assert.deepEqual(shown.labels, { madeAt: 'spring' });
});

test('the text of a document is made once', () => {
  const network = aNetwork('lan');
  assert.equal(documentBytes(network).toString(), documentBytes(network).toString());
  assert.equal(JSON.parse(documentBytes(network).toString()).name, 'lan');
});

test('an ETag comes back as the revision it was', () => {
  assert.equal(revisionOf(etag({ revision: 42 })), 42);
  assert.equal(revisionOf('W/"42"'), 42);
  assert.equal(revisionOf('*'), undefined);
  assert.equal(revisionOf(undefined), undefined);
  for (const bad of ['42', '"x"', '"1", "2"', '""']) assert.ok(Number.isNaN(revisionOf(bad)), bad);
});
