import { VirgaError } from '../errors.ts';
import type { Image, ImageStatus } from '../model/image.ts';
import type { Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { some, without } from '../util.ts';
import { labelsEqual } from './actions.ts';
import { checkFreeName, checkReason, checkText, checkWhole, invalid, limits, mergeLabels, newMeta } from './check.ts';
import type { ImageInput } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { EventDetails, RequestResult } from './result.ts';
import { Draft, mayChange, notUnderReview, nothing } from './result.ts';

const sha512 = /^[0-9a-f]{128}$/;

/** What was found out about the bytes, and the copy that was made of them. */
export interface ReadyImageFacts {
  readonly givenSha512: string;
  readonly stored: NonNullable<ImageStatus['stored']>;
  readonly virtualBytes: number;
}

/** Announces an image; its bytes follow in parts. */
export function beginImage(snapshot: Snapshot, input: ImageInput, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'add images');
  checkFreeName(snapshot, 'image', input.name);
  checkWhole('the size in bytes', input.sizeBytes, 1, limits.imageBytes);
  if (input.description !== undefined) checkText('the description', input.description, limits.description);
  const expected = input.sha512?.toLowerCase();
  if (expected !== undefined && !sha512.test(expected)) throw invalid('the SHA-512 must be 128 hexadecimal digits');
  const image: Image = {
    ...newMeta(context, context.uuid(), input.name, input),
    kind: 'image',
    spec: {
      format: input.format,
      ...(input.description === undefined ? {} : { description: input.description }),
      ...(expected === undefined ? {} : { expectedSha512: expected }),
    },
    status: { state: 'uploading', stateAt: context.now, sizeBytes: input.sizeBytes, receivedBytes: 0 },
  };
  const draft = new Draft(context);
  draft.create(image);
  draft.event(image, { type: 'image.created', message: `the upload of image ${input.name} began` });
  return draft.finish();
}

/** How much has arrived durably; it only rises, up to the size that was announced. */
export function imageReceived(
  snapshot: Snapshot,
  id: Uuid,
  receivedBytes: number,
  context: RequestContext,
): RequestResult {
  const image = inState(snapshot, id, ['uploading']);
  const { status } = image;
  if (receivedBytes > status.sizeBytes)
    throw new VirgaError('upload_size', { name: image.name, expected: status.sizeBytes, given: receivedBytes });
  if (receivedBytes < status.receivedBytes)
    throw new VirgaError('upload_offset', { name: image.name, expected: status.receivedBytes, given: receivedBytes });
  if (receivedBytes === status.receivedBytes) return nothing();
  const draft = new Draft(context);
  draft.put({ ...image, status: { ...status, receivedBytes } });
  return draft.finish();
}

/** All bytes are here; header checks and conversion begin. */
export function imageChecking(snapshot: Snapshot, id: Uuid, context: RequestContext): RequestResult {
  const image = inState(snapshot, id, ['uploading', 'checking']);
  const { status } = image;
  if (status.state === 'checking') return nothing();
  if (status.receivedBytes !== status.sizeBytes)
    throw new VirgaError('upload_size', { name: image.name, expected: status.sizeBytes, given: status.receivedBytes });
  const next: ImageStatus = { ...status, state: 'checking', stateAt: context.now };
  return written(image, next, context, { type: 'image.checking', message: `the image ${image.name} is checked` });
}

export function imageReady(
  snapshot: Snapshot,
  id: Uuid,
  facts: ReadyImageFacts,
  context: RequestContext,
): RequestResult {
  const image = inState(snapshot, id, ['uploading', 'checking']);
  const { expectedSha512 } = image.spec;
  if (expectedSha512 !== undefined && expectedSha512 !== facts.givenSha512)
    throw new VirgaError('image_digest', {
      what: `image "${image.name}"`,
      actual: facts.givenSha512,
      expected: expectedSha512,
    });
  const { givenSha512, stored, virtualBytes } = facts;
  const next: ImageStatus = {
    ...without(image.status, 'error'),
    state: 'ready',
    stateAt: context.now,
    givenSha512,
    stored,
    virtualBytes,
  };
  return written(image, next, context, {
    type: 'image.ready',
    message: `the image ${image.name} is ready`,
    evidence: { virtualBytes, storedBytes: stored.sizeBytes, sha512: stored.sha512 },
  });
}

export function imageFailed(
  snapshot: Snapshot,
  id: Uuid,
  error: { readonly code: string; readonly message: string },
  context: RequestContext,
): RequestResult {
  const image = inState(snapshot, id, ['uploading', 'checking', 'failed']);
  if (image.status.state === 'failed') return nothing();
  const next: ImageStatus = { ...image.status, state: 'failed', stateAt: context.now, error };
  return written(image, next, context, {
    type: 'image.failed',
    severity: 'error',
    message: `the image ${image.name} is refused: ${error.message}`,
    cause: error.code,
  });
}

export function renameImage(snapshot: Snapshot, ref: string, name: string, context: RequestContext): RequestResult {
  const image = changeable(snapshot, ref, context);
  checkFreeName(snapshot, 'image', name, image.id);
  if (name === image.name) return nothing();
  const draft = new Draft(context);
  draft.put({ ...image, name });
  draft.event(image, { type: 'image.renamed', message: `the image ${image.name} is now called ${name}` });
  return draft.finish();
}

export interface ImageChange {
  readonly description?: string | undefined;
  /** `null` removes a label. */
  readonly labels?: Readonly<Record<string, string | null>> | undefined;
}

export function changeImage(
  snapshot: Snapshot,
  ref: string,
  input: ImageChange,
  context: RequestContext,
): RequestResult {
  const image = changeable(snapshot, ref, context);
  const labels = mergeLabels(image.labels, input.labels);
  const description = input.description ?? image.spec.description;
  if (description !== undefined) checkText('the description', description, limits.description);
  if (description === image.spec.description && labelsEqual(labels, image.labels)) return nothing();
  const spec = { ...image.spec, ...(description === undefined ? {} : { description }) };
  const generation = description === image.spec.description ? image.generation : image.generation + 1;
  const draft = new Draft(context);
  draft.put({ ...image, labels, spec, generation });
  draft.event(image, { type: 'image.changed', message: `the image ${image.name} was changed` });
  return draft.finish();
}

/** Refused while a guest needs it: its overlay stands on it, and a rebuild goes back to it. */
export function deleteImage(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const image = changeable(snapshot, ref, context);
  notUnderReview(snapshot);
  const users: string[] = [];
  for (const guest of snapshot.all('guest')) if (guest.spec.image?.id === image.id) users.push(guest.name);
  if (users.length > 0)
    throw new VirgaError('in_use', {
      kind: 'image',
      name: image.name,
      users: `guests ${some(users.toSorted())}`,
    });
  const draft = new Draft(context);
  draft.remove(image);
  draft.event(image, { type: 'image.deleted', message: `the image ${image.name} was deleted` });
  return draft.finish();
}

function changeable(snapshot: Snapshot, ref: string, context: RequestContext): Image {
  const image = resolve(snapshot, 'image', ref);
  mayChange(context, image, `change the image "${image.name}"`);
  checkReason(context);
  return image;
}

function inState(snapshot: Snapshot, id: Uuid, states: readonly ImageStatus['state'][]): Image {
  const image = snapshot.get('image', id);
  if (!image) throw new VirgaError('not_found', { kind: 'image', name: id });
  const { state } = image.status;
  if (!states.includes(state)) throw invalid(`the image "${image.name}" is ${state}, no longer ${states[0] ?? ''}`);
  return image;
}

function written(image: Image, status: ImageStatus, context: RequestContext, event: EventDetails): RequestResult {
  const draft = new Draft(context);
  draft.put({ ...image, status });
  draft.event(image, event);
  return draft.finish();
}
