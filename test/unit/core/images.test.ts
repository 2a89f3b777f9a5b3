import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ImageInput } from '../../../src/core/requests/inputs.ts';
import {
  beginImage,
  changeImage,
  deleteImage,
  imageChecking,
  imageFailed,
  imageReady,
  imageReceived,
  renameImage,
} from '../../../src/core/requests/images.ts';
import { finishReview } from '../../../src/core/requests/review.ts';
import { aGuest, anImage, refused, t0, TestSite } from './kit.ts';

const given = 'c'.repeat(128);

function begun(more: Partial<ImageInput> = {}): { site: TestSite; id: string } {
  const site = new TestSite();
  const input: ImageInput = { name: 'debian', format: 'qcow2', sizeBytes: 100, ...more };
  const { created } = site.commit(beginImage(site, input, site.context));
  return { site, id: created[0]?.id ?? '' };
}

test('an image arrives in parts, is checked, and is ready', () => {
  const { site, id } = begun({ sha512: given.toUpperCase() });
  site.commit(imageReceived(site, id, 40, site.context));
  assert.equal(imageReceived(site, id, 40, site.context).change.put.length, 0);
  refused('upload_offset', () => imageReceived(site, id, 39, site.context));
  refused('upload_size', () => imageReceived(site, id, 101, site.context));
  refused('upload_size', () => imageChecking(site, id, site.context));
  site.commit(imageReceived(site, id, 100, site.context));
  site.commit(imageChecking(site, id, site.context));
  const stored = { sha512: 'd'.repeat(128), sizeBytes: 90, format: 'qcow2' } as const;
  const facts = { givenSha512: given, stored, virtualBytes: 1000 };
  refused('image_digest', () => imageReady(site, id, { ...facts, givenSha512: 'e'.repeat(128) }, site.context));
  site.commit(imageReady(site, id, facts, site.context));
  const { status } = site.get('image', id) ?? assert.fail();
  assert.deepEqual(
    [status.state, status.givenSha512, status.stored, status.virtualBytes],
    ['ready', given, stored, 1000],
  );
  refused('invalid_request', () => imageReceived(site, id, 100, site.context));
  refused('invalid_request', () => imageFailed(site, id, { code: 'x', message: 'y' }, site.context));
});

test('a refused image says why', () => {
  const { site, id } = begun();
  site.commit(imageFailed(site, id, { code: 'image_refused', message: 'it has a backing file' }, site.context));
  assert.equal(site.get('image', id)?.status.error?.message, 'it has a backing file');
  assert.equal(imageFailed(site, id, { code: 'a', message: 'b' }, site.context).change.put.length, 0);
});

test('wrong announcements are refused', () => {
  refused('limit', () => begun({ sizeBytes: 0 }));
  refused('invalid_request', () => begun({ sha512: 'abc' }));
  refused('invalid_name', () => begun({ name: 'a/b' }));
  refused('limit', () => begun({ description: 'x'.repeat(1001) }));
});

test('rename, describe, label; delete is refused while in use, saying by whom', () => {
  const image = anImage('debian');
  const site = new TestSite([image, anImage('other'), aGuest('b', { image }), aGuest('a', { image })]);
  refused('name_taken', () => renameImage(site, 'debian', 'other', site.context));
  site.commit(renameImage(site, 'debian', 'debian-12', site.context));
  assert.equal(renameImage(site, 'debian-12', 'debian-12', site.context).change.put.length, 0);
  site.commit(changeImage(site, 'debian-12', { description: 'stable', labels: { os: 'linux' } }, site.context));
  assert.deepEqual(site.get('image', image.id)?.labels, { os: 'linux' });
  assert.equal(site.get('image', image.id)?.generation, 2);
  const error = refused('in_use', () => deleteImage(site, 'debian-12', site.context));
  assert.equal(error.message, 'The image "debian-12" is in use by guests a, b');
  site.commit(deleteImage(site, 'other', site.context));
  assert.equal(site.byName('image', 'other'), undefined);
});

test('a review ends once; until then images stay', () => {
  const site = new TestSite([anImage('debian')]);
  assert.equal(finishReview(site, site.context).change.site, undefined);
  site.site = { ...site.site, review: { restoredAt: t0, backupAt: t0 } };
  refused('review_pending', () => deleteImage(site, 'debian', site.context));
  site.commit(finishReview(site, site.context));
  assert.equal(site.site.review, undefined);
  assert.equal(site.events.at(-1)?.type, 'site.reviewed');
});
