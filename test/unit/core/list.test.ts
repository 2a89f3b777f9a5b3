import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { list, parseSelector } from '../../../src/core/list.ts';
import { resolve } from '../../../src/core/requests/resolve.ts';
import { aGuest, aHost, aNetwork, anImage, refused, TestSite } from './kit.ts';

const h1 = aHost('h1');
const image = anImage('debian');
const lan = aNetwork('lan');
const nics = [{ networkId: lan.id, mac: '52:54:00:00:00:01' }];
const site = new TestSite([
  h1,
  aHost('h2', { status: { state: 'silent' } }),
  image,
  lan,
  aGuest('web-2', { on: h1, image, labels: { app: 'web', tier: '1' }, status: { state: 'running' } }),
  aGuest('web-1', { labels: { app: 'web' }, spec: { nics } }),
  aGuest('db', { labels: { app: 'db' } }),
]);

function names(query: Parameters<typeof list>[2]): string[] {
  return list(site, 'guest', query).items.map((each) => each.name);
}

test('lists are sorted by name and filtered by every field', () => {
  assert.deepEqual(names({}), ['db', 'web-1', 'web-2']);
  assert.deepEqual(names({ name: 'web' }), ['web-1', 'web-2']);
  assert.deepEqual(names({ state: 'running' }), ['web-2']);
  assert.deepEqual(names({ state: 'running,pending' }), ['db', 'web-1', 'web-2']);
  assert.deepEqual(names({ host: 'h1' }), ['web-2']);
  assert.deepEqual(names({ host: h1.id }), ['web-2']);
  refused('not_found', () => names({ host: 'nobody' }));
  assert.deepEqual(names({ image: 'debian' }), ['web-2']);
  assert.deepEqual(names({ network: 'lan' }), ['web-1']);
  assert.deepEqual(names({ label: 'app=web,tier!=1' }), ['web-1']);
  assert.deepEqual(
    list(site, 'host', { state: 'silent' }).items.map((each) => each.name),
    ['h2'],
  );
  refused('invalid_request', () => list(site, 'guest', { state: 'runing' }));
  refused('invalid_request', () => list(site, 'network', { state: 'running' }));
  refused('invalid_request', () => list(site, 'host', { image: 'debian' }));
});

test('pages: bounded, in order, nothing twice and nothing left out', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/), { maxLength: 30 }),
      fc.integer({ min: 1, max: 7 }),
      (all, limit) => {
        const many = new TestSite(all.map((name) => aGuest(name)));
        const seen: string[] = [];
        let cursor: string | undefined;
        for (let pages = 0; pages <= all.length; pages += 1) {
          const page = list(many, 'guest', { limit, cursor });
          assert.equal(page.total, all.length);
          assert.ok(page.items.length <= limit);
          seen.push(...page.items.map((each) => each.name));
          cursor = page.next;
          if (cursor === undefined) break;
        }
        assert.deepEqual(seen, all.toSorted());
      },
    ),
    { numRuns: 50 },
  );
});

test('a page goes on although the last object of the page before is gone', () => {
  const some = new TestSite(['a', 'b', 'c'].map((name) => aGuest(name)));
  const first = list(some, 'guest', { limit: 2 });
  some.apply({ put: [], remove: [{ kind: 'guest', id: some.guest('b').id }], events: [] });
  assert.deepEqual(
    list(some, 'guest', { limit: 2, cursor: first.next }).items.map((each) => each.name),
    ['c'],
  );
});

test('limits, cursors and selectors that make no sense are refused', () => {
  for (const limit of [0, 20_001, 1.5]) refused('invalid_request', () => list(site, 'guest', { limit }));
  for (const cursor of ['', 'x', 'n1', 'n1zz', 'n1006'])
    refused('invalid_request', () => list(site, 'guest', { cursor }));
  for (const text of ['', ',', 'a=b,', '=b', '!a', 'a==b', 'a!b', 'a b=c'])
    assert.match(refused('invalid_request', () => parseSelector(text)).message, /^the label selector "/, text);
});

test('selectors', () => {
  const fits = (text: string, labels: Record<string, string>): boolean => parseSelector(text)(labels);
  assert.ok(fits('a', { a: '' }));
  assert.ok(fits('a=', { a: '' }));
  assert.ok(!fits('a', {}));
  assert.ok(!fits('toString', {}));
  assert.ok(fits('a!=1', {}));
  assert.ok(fits(' a = x=y , b ', { a: 'x=y', b: '1' }));
});

test('objects are found by name, UUID or a beginning of it', () => {
  assert.equal(resolve(site, 'host', 'h1'), site.host('h1'));
  assert.equal(resolve(site, 'host', h1.id), site.host('h1'));
  refused('ambiguous', () => resolve(site, 'guest', h1.id.slice(0, 8)));
  assert.equal(resolve(site, 'image', image.id.slice(0, 30)).id, image.id);
  refused('not_found', () => resolve(site, 'host', h1.id.slice(0, 7)));
});
