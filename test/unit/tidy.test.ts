/** The house rules of CONTRIBUTING.md, held by a test: walls between folders, file size, banned words, documentation. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const sources = globSync('{src,test,bench}/**/*.{ts,tsx}', { cwd: root }).sort();
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The room a file belongs to: its folder below src, or the name of a file that stands there alone. */
function roomOf(path: string): string {
  const parts = path.split('/');
  return parts.length === 2 ? (parts[1] ?? '').replace(/\.ts$/, '') : (parts[1] ?? '');
}

/** Who may import whom. A room may always import itself; `main.ts` files wire rooms together and may import all. */
const walls: Readonly<Record<string, readonly string[]>> = {
  core: [],
  ports: ['core'],
  api: ['core'],
  libvirt: [],
  effects: ['ports', 'core'],
  keeper: ['ports', 'core', 'effects'],
  controller: ['ports', 'core', 'api', 'effects'],
  agent: ['ports', 'core', 'api', 'libvirt', 'effects'],
  sim: ['controller', 'agent', 'keeper', 'ports', 'core'],
  cli: ['api'],
  setup: ['libvirt', 'core', 'effects'],
  testbed: ['setup', 'api', 'core'],
  site: ['setup', 'testbed', 'api', 'cli', 'core', 'effects'],
};
const wiring = /(^|\/)main\.ts$|^src\/(local|docs)\.ts$/;
/** Doors inside a wall: the agent's link speaks the wire schemas of the API and nothing else of it. */
const agentApi = /^src\/api\/(link|report|errors)\.ts$/;

interface Import {
  readonly from: string;
  readonly target: string;
  readonly external: boolean;
  readonly typeOnly: boolean;
}

function importsOf(path: string): Import[] {
  const found: Import[] = [];
  const pattern = /(?:^|\n)\s*(import|export)\s+(type\s+)?(?:[^'";]*?\s+from\s+)?'([^']+)'|import\(\s*'([^']+)'\s*\)/g;
  for (const match of read(path).matchAll(pattern)) {
    const target = match[3] ?? match[4] ?? '';
    const external = !target.startsWith('.');
    const resolved = external ? target : relative(root, resolve(join(root, dirname(path)), target));
    found.push({ from: path, target: resolved, external, typeOnly: match[2] !== undefined });
  }
  return found;
}

test('folders import only in the directions of CONTRIBUTING.md', () => {
  const wrong: string[] = [];
  for (const path of sources.filter((each) => each.startsWith('src/'))) {
    const room = roomOf(path);
    for (const { target, external } of importsOf(path)) {
      if (room === 'core' && external) wrong.push(`${path}: core imports ${target}`);
      if (external || wiring.test(path) || target.endsWith('.json')) continue;
      const other = roomOf(target);
      if (other === room) continue;
      if (room === 'agent' && other === 'api' && !agentApi.test(target)) wrong.push(`${path} → ${target}`);
      if (!(walls[room] ?? []).includes(other)) wrong.push(`${path} → ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

/** Everything that a file leads to by imports. */
function reach(path: string, seen = new Set<string>()): Set<string> {
  if (seen.has(path)) return seen;
  seen.add(path);
  // Types are gone when it runs.
  for (const { target, external, typeOnly } of importsOf(path)) if (!external && !typeOnly) reach(target, seen);
  return seen;
}

test('what the simulator runs knows nothing of Node, packages or the real world', () => {
  const wrong = [...reach('src/sim/scenario.ts')].flatMap((path) =>
    importsOf(path)
      .filter(({ target, external }) => external || roomOf(target) === 'effects')
      .map(({ target }) => `${path} → ${target}`),
  );
  assert.deepEqual(wrong, []);
});

test('relative imports name files that exist, with their extension', () => {
  const wrong = sources
    .flatMap(importsOf)
    .filter((each) => !each.external && !existsSync(join(root, each.target)))
    .map((each) => `${each.from} → ${each.target}`);
  assert.deepEqual(wrong, []);
});

test('files stay under 400 lines', () => {
  const long = sources.filter((path) => read(path).split('\n').length > 401);
  assert.deepEqual(long, []);
});

/** Words of STYLE with one meaning, promises left open, and checks turned off. */
const banned: readonly (readonly [RegExp, string])[] = [
  [/\b(compute|physical|hypervisor|cluster) nodes?\b/i, 'say host'],
  [/\b(TODO|FIXME|XXX|HACK)\b/, 'finish it, or write it down where people look'],
  [/@ts-(ignore|expect-error|nocheck)|(ox|es)lint-disable/, 'no check is turned off'],
  [/\b(test|it|describe)\.only\(/, 'all tests run'],
  [/registry\.npmjs|deb\.debian\.org|npmmirror/, 'no registry is named'],
  [/\bpkill\b|\bkillall\b/, 'end only processes that we started, by their id'],
];

test('banned words', () => {
  const self = relative(root, fileURLToPath(import.meta.url));
  const texts = [...sources, ...globSync('{docs/**/*.md,*.md,virga,.ci/run}', { cwd: root })];
  const wrong: string[] = [];
  for (const path of texts) {
    if (path === self) continue;
    for (const [index, line] of read(path).split('\n').entries())
      for (const [pattern, why] of banned)
        if (pattern.test(line)) wrong.push(`${path}:${index + 1}: ${why}: ${line.trim().slice(0, 100)}`);
  }
  assert.deepEqual(wrong, []);
});

test('every decision record is listed in the index', () => {
  const records = globSync('docs/adr/[0-9]*.md', { cwd: root }).map((path) => path.replace('docs/adr/', ''));
  const index = read('docs/adr/README.md');
  assert.ok(records.length > 0);
  assert.deepEqual(
    records.filter((name) => !index.includes(name)),
    [],
  );
});

test('relative links in the documentation lead somewhere', () => {
  const wrong: string[] = [];
  for (const path of globSync('{docs/**/*.md,*.md}', { cwd: root }))
    for (const match of read(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g))
      if (!existsSync(join(root, dirname(path), match[1] ?? ''))) wrong.push(`${path}: ${match[1]}`);
  assert.deepEqual(wrong, []);
});
