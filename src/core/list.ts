/** Filtering, sorting and pages of every list. Order: by name, then by id; a page goes on behind the last one's. */
import { resolve } from './requests/resolve.ts';
import { VirgaError } from './errors.ts';
import type { Guest } from './model/guest.ts';
import type { Kind } from './model/resource.ts';
import type { AnyResource, KindMap, Snapshot } from './model/snapshot.ts';
import type { ListQuery } from './requests/inputs.ts';
import { compareText } from './util.ts';

export const listLimits = { usual: 1000, most: 20_000 } as const;

export interface Page<T> {
  readonly items: readonly T[];
  /** Cursor of the next page; absent: this was the last. */
  readonly next?: string;
  /** All that fit the query, on all pages. */
  readonly total: number;
}

type Labels = Readonly<Record<string, string>>;
type Test = (resource: AnyResource) => boolean;

/** What fits the query. Errors: `invalid_request` for a limit, cursor or selector that cannot be understood. */
export function list<K extends Kind>(snapshot: Snapshot, kind: K, query: ListQuery): Page<KindMap[K]> {
  const limit = query.limit ?? listLimits.usual;
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > listLimits.most)
    throw invalid(`the limit must be from 1 to ${listLimits.most}, not ${limit}`);
  const tests = testsOf(snapshot, kind, query);
  const all = inOrder(snapshot, kind);
  const found = tests.length === 0 ? all : all.filter((each) => tests.every((test) => test(each)));
  const from = query.cursor === undefined ? 0 : firstBehind(found, decodeCursor(query.cursor));
  const items = found.slice(from, from + limit);
  const last = items.at(-1);
  const more = last !== undefined && from + items.length < found.length;
  return { items, total: found.length, ...(more ? { next: encodeCursor(last.name) } : {}) };
}

interface Ordered {
  readonly revision: number;
  readonly items: readonly AnyResource[];
}
const ordered = new WeakMap<Snapshot, Map<Kind, Ordered>>();

/** All objects of a kind in order. Sorting 20,000 takes longer than sending them, so it is done once per revision. */
function inOrder<K extends Kind>(snapshot: Snapshot, kind: K): readonly KindMap[K][] {
  const kinds = ordered.get(snapshot) ?? new Map<Kind, Ordered>();
  ordered.set(snapshot, kinds);
  const last = kinds.get(kind);
  if (last?.revision === snapshot.revision) return last.items as readonly KindMap[K][];
  const items = [...snapshot.all(kind)].sort((a, b) => compareText(a.name, b.name) || compareText(a.id, b.id));
  kinds.set(kind, { revision: snapshot.revision, items });
  return items;
}

/** Names are unique within their kind, so the name says where a page ended, even if that object is gone by now. */
function firstBehind(sorted: readonly { readonly name: string }[], name: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareText(sorted[middle]?.name ?? '', name) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

const cursorForm = /^n1((?:[0-9a-f]{4})+)$/;

function encodeCursor(name: string): string {
  let text = 'n1';
  for (let index = 0; index < name.length; index += 1) text += name.charCodeAt(index).toString(16).padStart(4, '0');
  return text;
}

function decodeCursor(cursor: string): string {
  const digits = cursorForm.exec(cursor)?.[1];
  if (digits === undefined) throw invalid('the cursor is not one that a list has given');
  let name = '';
  for (let index = 0; index < digits.length; index += 4)
    name += String.fromCharCode(Number.parseInt(digits.slice(index, index + 4), 16));
  return name;
}

function testsOf(snapshot: Snapshot, kind: Kind, query: ListQuery): readonly Test[] {
  const tests: Test[] = [];
  const { name, state, host, image, network } = query;
  if (query.label !== undefined) {
    const fits = parseSelector(query.label);
    tests.push((each) => fits(each.labels));
  }
  if (name !== undefined) tests.push((each) => each.name.startsWith(name));
  if (state !== undefined) tests.push(stateTest(kind, state));
  const only = (test: (guest: Guest) => boolean): void => {
    if (kind !== 'guest') throw invalid(`a list of ${kind}s has no filter by host, image or network`);
    tests.push((each) => each.kind === 'guest' && test(each));
  };
  if (host !== undefined) {
    const id = resolve(snapshot, 'host', host).id;
    only((guest) => guest.status.placement?.hostId === id);
  }
  if (image !== undefined) {
    const id = resolve(snapshot, 'image', image).id;
    only((guest) => guest.spec.image?.id === id);
  }
  if (network !== undefined) {
    const id = resolve(snapshot, 'network', network).id;
    only((guest) => guest.spec.nics.some((nic) => nic.networkId === id));
  }
  return tests;
}

const states: Partial<Record<Kind, readonly string[]>> = {
  guest: ['pending', 'starting', 'running', 'paused', 'stopping', 'stopped', 'failed', 'unknown', 'deleting'],
  host: ['invited', 'online', 'silent', 'lost', 'fenced'],
  image: ['uploading', 'checking', 'ready', 'failed'],
};

/** One state, or several joined by commas. */
function stateTest(kind: Kind, text: string): Test {
  const known = states[kind];
  if (!known) throw invalid(`a list of ${kind}s has no filter by state`);
  const wanted = text.split(',');
  const wrong = wanted.find((each) => !known.includes(each));
  if (wrong !== undefined) throw invalid(`"${wrong.slice(0, 40)}" is not a state of a ${kind}: ${known.join(', ')}`);
  return (each) => 'state' in each.status && wanted.includes(each.status.state);
}

const selectorKey = /^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$/;

/** `key=value`, `key!=value` (also true without the key), `key` (has it); joined by commas, all must hold. */
export function parseSelector(text: string): (labels: Labels) => boolean {
  const terms = text.split(',').map((part) => parseTerm(part.trim(), text));
  return (labels) => terms.every((term) => term(labels));
}

function parseTerm(part: string, whole: string): (labels: Labels) => boolean {
  const wrong = (why: string): VirgaError => invalid(`the label selector "${whole.slice(0, 80)}" ${why}`);
  const match = /^([^=!]*)(!=|=)?(.*)$/.exec(part);
  const [, rawKey = '', operator, value = ''] = match ?? [];
  const key = rawKey.trim();
  if (part === '') throw wrong('has an empty part; write key=value, key!=value or key, joined by commas');
  if (!selectorKey.test(key)) throw wrong(`has "${part.slice(0, 40)}", which names no valid label key`);
  if (value.startsWith('=')) throw wrong(`has "=="; write ${key}=${value.slice(1, 40)}`);
  const wanted = value.trim();
  if (operator === '=') return (labels) => Object.hasOwn(labels, key) && labels[key] === wanted;
  if (operator === '!=') return (labels) => !Object.hasOwn(labels, key) || labels[key] !== wanted;
  if (value !== '') throw wrong(`has "${part.slice(0, 40)}"; write key=value, key!=value or key`);
  return (labels) => Object.hasOwn(labels, key);
}

function invalid(detail: string): VirgaError {
  return new VirgaError('invalid_request', { detail });
}
