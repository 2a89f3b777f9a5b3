/** Reads a site file: YAML 1.2, strict, every problem with its line, all at once. */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type YAMLMap,
} from 'yaml';
import { VirgaError } from '../../core/errors.ts';
import { siteShape, type Shape } from './shape.ts';
import type { SiteFile } from './types.ts';

export interface Problem {
  readonly line: number;
  readonly detail: string;
}

/** One error that tells all problems, each with `FILE:LINE`. */
export function siteFileError(file: string, problems: readonly Problem[]): VirgaError {
  const sorted = [...problems].sort((a, b) => a.line - b.line);
  const [first, ...rest] = sorted;
  const more = rest.slice(0, 49).map((each) => `\n${file}:${each.line}: ${each.detail}`);
  if (rest.length > 49) more.push(`\n… and ${rest.length - 49} more`);
  return new VirgaError('site_file', {
    file,
    line: first?.line ?? 1,
    detail: `${first?.detail ?? 'nothing is in it'}${more.join('')}`,
    problems: sorted.length,
  });
}

/** Larger files are a mistake; the limit keeps the reading bounded. */
const mostBytes = 8 * 1024 * 1024;
const mostProblems = 1000;

/** @throws VirgaError `site_file` with every problem. */
export function parseSiteFile(file: string, text: string): SiteFile {
  if (text.length > mostBytes) throw siteFileError(file, [{ line: 1, detail: 'it is larger than 8 MiB' }]);
  const counter = new LineCounter();
  const document = parseDocument(text, {
    version: '1.2',
    lineCounter: counter,
    prettyErrors: false,
    uniqueKeys: true,
    merge: false,
  });
  const reader = new Reader(document, counter);
  for (const error of document.errors) reader.add(error.pos[0], sentence(error.code, error.message));
  if (document.errors.length > 0) throw siteFileError(file, reader.problems);
  const value = document.contents ? reader.read(document.contents, siteShape, []) : undefined;
  if (!document.contents) reader.add(0, 'it is empty; it needs at least "site: NAME"');
  const site = { ...emptySite, ...(value as Partial<SiteFile> | undefined), file, lines: reader.lines };
  if (reader.problems.length === 0) checkSense(site, reader);
  if (reader.problems.length > 0) throw siteFileError(file, reader.problems);
  return site;
}

const emptySite = { site: '', hosts: {}, networks: {}, images: {}, guests: {} };

function sentence(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'the same key twice';
  if (code === 'TAB_AS_INDENT') return 'tabs do not indent in YAML; use spaces';
  return `not YAML: ${message.split('\n')[0]?.replace(/ at line \d+.*$/, '') ?? code}`;
}

type Path = readonly string[];

class Reader {
  readonly problems: Problem[] = [];
  /** Line of each key, by its path joined with dots. */
  readonly lines = new Map<string, number>();
  readonly #document: Document.Parsed;
  readonly #counter: LineCounter;

  constructor(document: Document.Parsed, counter: LineCounter) {
    this.#document = document;
    this.#counter = counter;
  }

  add(offset: number, detail: string): void {
    this.#keep(this.#counter.linePos(offset).line, detail);
  }

  /** A problem with what stands at a path. */
  addAt(path: Path, detail: string): void {
    this.#keep(this.lines.get(path.join('.')) ?? 1, detail);
  }

  /** One line each, also where the text that it quotes has several. */
  #keep(line: number, detail: string): void {
    if (this.problems.length < mostProblems) this.problems.push({ line, detail: detail.replaceAll(/\s*\n\s*/g, '⏎') });
  }

  /** The plain value, or undefined after a problem. */
  read(given: Node, shape: Shape, path: Path): unknown {
    let node = given;
    if (isAlias(given)) {
      const target = given.resolve(this.#document);
      if (!target) return this.#wrong(given, path, `*${given.source} names no anchor above`);
      node = target;
    }
    if (shape.is === 'object' || shape.is === 'map') {
      if (!isMap(node)) return this.#wrong(node, path, `must be ${article(shape)}, not ${kindOf(node)}`);
      return shape.is === 'object' ? this.#object(node, shape, path) : this.#map(node, shape, path);
    }
    if (shape.is === 'list') {
      if (!isSeq(node)) return this.#wrong(node, path, `must be a list, not ${kindOf(node)}`);
      if (node.items.length > shape.most)
        return this.#wrong(node, path, `has ${node.items.length} items, at most ${shape.most}`);
      return node.items.map((item, index) => this.read(item as Node, shape.of, [...path, String(index)]));
    }
    if (!isScalar(node)) return this.#wrong(node, path, `must be ${article(shape)}, not ${kindOf(node)}`);
    const { value, problem } = scalar(node.value, shape);
    return problem === undefined ? value : this.#wrong(node, path, problem);
  }

  #wrong(node: Node, path: Path, detail: string): undefined {
    this.add(node.range?.[0] ?? 0, path.length === 0 ? `the file ${detail}` : `${pathText(path)} ${detail}`);
    return undefined;
  }

  #keys(map: YAMLMap, path: Path, visit: (key: string, value: Node, keyNode: Node) => void): void {
    for (const pair of map.items) {
      const keyNode = pair.key as Node;
      const key = isScalar(keyNode) ? String(keyNode.value) : undefined;
      const offset = keyNode.range?.[0] ?? 0;
      if (key === undefined) this.add(offset, `${pathText(path)} has a key that is no plain word`);
      else {
        this.lines.set([...path, key].join('.'), this.#counter.linePos(offset).line);
        visit(key, pair.value as Node, keyNode);
      }
    }
  }

  #object(map: YAMLMap, shape: Shape & { is: 'object' }, path: Path): Record<string, unknown> {
    const out: Record<string, unknown> = {};
    this.#keys(map, path, (key, value, keyNode) => {
      const field = Object.hasOwn(shape.fields, key) ? shape.fields[key] : undefined;
      if (!field) {
        const close = nearest(key, Object.keys(shape.fields));
        this.add(
          keyNode.range?.[0] ?? 0,
          `unknown key "${key}"${path.length > 0 ? ` in ${pathText(path)}` : ''}${close === undefined ? `; known are ${Object.keys(shape.fields).join(', ')}` : `; did you mean ${close}?`}`,
        );
      } else if (empty(value) && (field.is === 'map' || field.is === 'object')) out[key] = {};
      else if (empty(value)) this.addAt([...path, key], `${pathText([...path, key])} has no value`);
      else out[key] = this.read(value, field, [...path, key]);
    });
    for (const key of shape.required ?? [])
      if (!(key in out) && !map.has(key))
        this.add(map.range?.[0] ?? 0, `${path.length === 0 ? 'the file' : pathText(path)} lacks "${key}"`);
    return out;
  }

  #map(map: YAMLMap, shape: Shape & { is: 'map' }, path: Path): Record<string, unknown> {
    const out: Record<string, unknown> = {};
    if (map.items.length > shape.most)
      this.add(map.range?.[0] ?? 0, `${pathText(path)} has ${map.items.length} entries, at most ${shape.most}`);
    const pattern = new RegExp(shape.key);
    this.#keys(map, path, (key, value, keyNode) => {
      if (!pattern.test(key))
        return this.add(keyNode.range?.[0] ?? 0, `"${key}" in ${pathText(path)} is not ${shape.keyWord}`);
      if (!empty(value)) out[key] = this.read(value, shape.of, [...path, key]);
      else if (shape.of.is === 'object' && !shape.of.required) out[key] = {};
      else this.addAt([...path, key], `${pathText([...path, key])} has no value`);
    });
    return out;
  }
}

const empty = (node: Node | null): boolean => node === null || (isScalar(node) && node.value === null);
const pathText = (path: Path): string => path.join('.');

function kindOf(node: Node): string {
  if (isMap(node)) return 'a group of keys';
  if (isSeq(node)) return 'a list';
  if (!isScalar(node) || node.value === null) return 'nothing';
  if (typeof node.value === 'string') return `the text "${node.value.slice(0, 40)}"`;
  return typeof node.value === 'number' ? `the number ${node.value}` : `${node.value === true}`;
}

function article(shape: Shape): string {
  const words: Readonly<Record<Shape['is'], string>> = {
    text: 'text',
    whole: 'a whole number',
    number: 'a number',
    flag: 'true or false',
    size: 'a size such as 512M or 2G',
    duration: 'a duration such as 30s',
    time: 'a time such as 500ms or 2s',
    choice: 'a word',
    list: 'a list',
    map: 'a group of keys',
    object: 'a group of keys',
  };
  return words[shape.is];
}

/** Scalar values, each judged by its shape. */
function scalar(given: unknown, shape: Shape): { value?: unknown; problem?: string } {
  const not = typeof given === 'string' ? `the text "${given.slice(0, 40)}"` : String(given);
  switch (shape.is) {
    case 'text':
      if (typeof given !== 'string') return { problem: `must be text; put it in quotes: "${String(given)}"` };
      if (shape.most !== undefined && given.length > shape.most)
        return { problem: `is longer than ${shape.most} characters` };
      if (shape.pattern !== undefined && !new RegExp(shape.pattern).test(given))
        return { problem: `is not valid: "${given.slice(0, 60)}"` };
      return { value: given };
    case 'whole':
    case 'number':
      if (typeof given !== 'number' || Number.isNaN(given) || (shape.is === 'whole' && !Number.isInteger(given)))
        return { problem: `must be ${article(shape)}, not ${not}` };
      if (given < shape.least || given > shape.most)
        return { problem: `must be from ${shape.least} to ${shape.most}, not ${given}` };
      return { value: given };
    case 'flag':
      return typeof given === 'boolean' ? { value: given } : { problem: `must be true or false, not ${not}` };
    case 'choice':
      if (typeof given === 'string' && shape.of.includes(given)) return { value: given };
      return { problem: `must be one of ${shape.of.join(', ')}, not ${not}` };
    case 'size': {
      const mib = typeof given === 'string' ? sizeMiB(given) : undefined;
      return mib === undefined ? { problem: `must be a size such as 512M or 2G, not ${not}` } : { value: mib };
    }
    case 'duration': {
      const seconds = durationSeconds(given);
      if (seconds === undefined) return { problem: `must be a duration such as 30s or 5m, not ${not}` };
      return seconds > shape.most ? { problem: `must be at most ${shape.most} s` } : { value: seconds };
    }
    case 'time': {
      const ms = typeof given === 'string' ? timeMs(given) : undefined;
      if (ms === undefined) return { problem: `must be a time such as 500ms or 2s, not ${not}` };
      return ms > shape.most ? { problem: `must be at most ${shape.most} ms` } : { value: ms };
    }
    case 'list':
    case 'map':
    case 'object':
      break;
  }
  return { problem: `must be ${article(shape)}, not ${not}` };
}

const powers: Readonly<Record<string, number>> = { K: 1 / 1024, M: 1, G: 1024, T: 1024 ** 2 };

/** `512M`, `2G` → MiB; undefined when it is no whole number of MiB. */
export function sizeMiB(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([kmgt])(?:i?b)?$/i.exec(text);
  const mib = match ? Number(match[1]) * (powers[(match[2] ?? '').toUpperCase()] ?? 0) : Number.NaN;
  return Number.isInteger(mib) && mib >= 1 && mib <= 1 << 30 ? mib : undefined;
}

function durationSeconds(given: unknown): number | undefined {
  if (typeof given === 'number') return Number.isInteger(given) && given >= 0 ? given : undefined;
  const match = typeof given === 'string' ? /^(\d+)(s|m|h)?$/.exec(given) : null;
  if (!match) return undefined;
  return Number(match[1]) * ({ s: 1, m: 60, h: 3600 }[match[2] ?? 's'] ?? 1);
}

/** `500ms`, `2s` → whole milliseconds. */
function timeMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s)$/.exec(text);
  const ms = match ? Number(match[1]) * (match[2] === 's' ? 1000 : 1) : Number.NaN;
  return Number.isInteger(ms) ? ms : undefined;
}

/** The known key that differs by at most two letters. */
function nearest(given: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((each) => ({ each, far: distance(given.toLowerCase(), each.toLowerCase()) }))
    .sort((a, b) => a.far - b.far);
  return ranked[0] && ranked[0].far <= 2 ? ranked[0].each : undefined;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1)
      next.push(
        Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}

/** What no shape can say: keys that exclude each other, names that meet. */
function checkSense(site: SiteFile, reader: Reader): void {
  for (const [name, image] of Object.entries(site.images))
    if (image.file !== undefined && image.url !== undefined)
      reader.addAt(['images', name, 'url'], `images.${name} has both file and url; give one`);
  for (const [name, network] of Object.entries(site.networks))
    if (network.mode === 'bridge' && network.bridge === undefined)
      reader.addAt(['networks', name], `networks.${name} of mode bridge needs "bridge"`);
  const { profile, ...figures } = site.settings?.lease ?? {};
  if (profile !== undefined && Object.keys(figures).length > 0)
    reader.addAt(['settings', 'lease', 'profile'], 'settings.lease has both a profile and figures; give one of them');
  const made = new Map<string, string>();
  for (const [name, guest] of Object.entries(site.guests)) {
    if (guest.count !== undefined && guest.addresses && Object.keys(guest.addresses).length > 0)
      reader.addAt(
        ['guests', name, 'addresses'],
        `guests.${name} has both count and addresses; an address is for one guest`,
      );
    for (const each of guestNames(name, guest.count)) {
      const other = made.get(each);
      if (other !== undefined)
        reader.addAt(['guests', name], `guests.${name} makes the guest "${each}", and so does guests.${other}`);
      else if (each.length > 63)
        reader.addAt(['guests', name], `guests.${name}: the name "${each}" is longer than 63 characters`);
      made.set(each, name);
    }
  }
}

/** NAME, or NAME-1 … NAME-N with a count. */
export const guestNames = (name: string, count: number | undefined): string[] =>
  count === undefined ? [name] : Array.from({ length: count }, (_, index) => `${name}-${index + 1}`);
