/** Limits on what a person may ask for, and the checks that several requests share. */
import { VirgaError } from '../errors.ts';
import type { Kind, Meta, Uuid } from '../model/resource.ts';
import { namePattern } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { hasControl, utf8Bytes } from '../util.ts';

export const limits = {
  guestsAtOnce: 1024,
  cpus: 512,
  /** 16 TiB. */
  memoryMiB: 16 * 1024 * 1024,
  smallestMemoryMiB: 16,
  /** 64 TiB. */
  diskMiB: 64 * 1024 * 1024,
  networksPerGuest: 8,
  graceSeconds: 3600,
  userDataBytes: 32 * 1024,
  sshKeys: 64,
  sshKeyBytes: 8 * 1024,
  labels: 64,
  labelKey: 128,
  labelValue: 255,
  snapshots: 32,
  reason: 500,
  description: 1000,
  adoptedXmlBytes: 256 * 1024,
  imageBytes: 16 * 1024 ** 4,
  /** Least and most virtual per physical. */
  overcommit: [0.1, 64],
} as const;

/** At most `labelKey` characters. */
export const labelKeyPattern = '^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$';

const name = new RegExp(namePattern);
const labelKey = new RegExp(labelKeyPattern);

export function invalid(detail: string): VirgaError {
  return new VirgaError('invalid_request', { detail });
}

export function checkName(kind: string, value: string): void {
  if (!name.test(value)) throw new VirgaError('invalid_name', { kind, name: value.slice(0, 80) });
}

/** A valid name that no other object of the kind has (`but`: the object that is being renamed). */
export function checkFreeName(snapshot: Snapshot, kind: Kind, value: string, but?: Uuid): void {
  checkName(kind, value);
  const other = snapshot.byName(kind, value);
  if (other && other.id !== but) throw new VirgaError('name_taken', { kind, name: value });
}

/** A whole number within its bounds. */
export function checkWhole(what: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value)) throw invalid(`${what} must be a whole number, not ${value}`);
  if (value < least) throw new VirgaError('limit', { what, value, limit: least, how: `It must be at least ${least}.` });
  if (value > most) throw new VirgaError('limit', { what, value, limit: most, how: `It must be at most ${most}.` });
}

export function checkText(what: string, value: string, most: number): void {
  const bytes = utf8Bytes(value);
  if (bytes > most)
    throw new VirgaError('limit', { what: `${what}, in bytes,`, value: bytes, limit: most, how: 'Make it shorter.' });
  if (hasControl(value)) throw invalid(`${what} has a control character`);
}

/** The reason of a change, where one is given. */
export function checkReason(context: RequestContext): void {
  if (context.actor.reason !== undefined) checkText('the reason', context.actor.reason, limits.reason);
}

type Labels = Readonly<Record<string, string>>;

/** Labels after the change; `null` takes one away. */
export function mergeLabels(old: Labels, change: Readonly<Record<string, string | null>> | undefined): Labels {
  if (!change) return old;
  const next: Record<string, string> = { ...old };
  for (const [key, value] of Object.entries(change)) {
    if (value === null) delete next[key];
    else next[key] = value;
  }
  checkLabels(next);
  return next;
}

export function checkLabels(labels: Labels): Labels {
  const entries = Object.entries(labels);
  checkWhole('the number of labels', entries.length, 0, limits.labels);
  for (const [key, value] of entries) {
    if (key.length > limits.labelKey || !labelKey.test(key))
      throw invalid(`"${key.slice(0, 80)}" is not a valid label key: use letters, digits and . _ / - (at most 128)`);
    checkText(`the label ${key}`, value, limits.labelValue);
    if (value.includes(',')) throw invalid(`the label ${key} has a comma; selectors could not name it`);
  }
  return labels;
}

/** What every new object begins with. */
export function newMeta(context: RequestContext, id: Uuid, called: string, more: NewMeta = {}): Meta {
  const { now, actor } = context;
  checkReason(context);
  return {
    id,
    name: called,
    owner: actor.who,
    community: actor.community,
    labels: checkLabels(more.labels ?? {}),
    generation: 1,
    revision: 0,
    createdAt: now,
    updatedAt: now,
    conditions: [],
    ...(more.origin === undefined ? {} : { origin: more.origin }),
  };
}

export interface NewMeta {
  readonly labels?: Labels | undefined;
  readonly origin?: string | undefined;
}
