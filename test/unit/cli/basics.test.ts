/** Units, tables, help, exit codes, errors: what all commands share. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { routes, type Route } from '../../../src/api/routes.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import { sizeMiB, sizeText } from '../../../src/api/site-file.ts';
import { commandsOf, outdated, pages, programToRead } from '../../../src/cli/reference.ts';
import { local } from '../../../src/local.ts';
import { noPaint } from '../../../src/cli/ui/style.ts';
import { cut, table, widthOf } from '../../../src/cli/ui/table.ts';
import { ago, bytes, parseLabelChanges, parseLabels, parseMiB, parseSeconds, span } from '../../../src/cli/units.ts';
import { guest, siteStatus } from './documents.ts';
import { cli, cut as broken, page, StandIn } from './stand-in.ts';

const escape = '\u001b';

test('sizes are powers of 1024 and need their unit', () => {
  assert.equal(parseMiB('512M'), 512);
  assert.equal(parseMiB('2G'), 2048);
  assert.equal(parseMiB('1.5GiB'), 1536);
  assert.equal(parseMiB('2048k'), 2);
  for (const wrong of ['512', '', '-1G', '0G', '1.0001M', '12X', 'G', '9999999T'])
    assert.throws(() => parseMiB(wrong), { name: 'Failure' }, wrong);
  assert.throws(() => parseMiB('512'), /say the unit/);
});

test('a size that is written reads back exactly', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1 << 30 }),
      (mib) => sizeMiB(sizeText(mib)) === mib && parseMiB(sizeText(mib)) === mib,
    ),
  );
});

test('durations', () => {
  assert.equal(parseSeconds('60'), 60);
  assert.equal(parseSeconds('60s'), 60);
  assert.equal(parseSeconds('1h30m'), 5400);
  assert.equal(parseSeconds('90d'), 90 * 86_400);
  for (const wrong of ['', 'abc', '5x', '5m junk', '-5s']) assert.throws(() => parseSeconds(wrong), wrong);
});

test('labels and their changes', () => {
  assert.deepEqual(parseLabels(['a=1', 'b=x=y', 'c=']), { a: '1', b: 'x=y', c: '' });
  assert.throws(() => parseLabels(['a']), /KEY=VALUE/);
  assert.throws(() => parseLabels(['a=1', 'a=2']), /twice/);
  assert.deepEqual(parseLabelChanges(['a=1', 'old-']), { a: '1', old: null });
});

test('times and sizes for people', () => {
  assert.equal(span(5000), '5 s');
  assert.equal(span(300_000), '5 min');
  assert.equal(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-03T00:00:00Z')), '2 d ago');
  assert.equal(ago('2026-01-01T01:00:00Z', Date.parse('2026-01-01T00:00:00Z')), 'in 60 min');
  assert.equal(bytes(1536), '1.5 KiB');
  assert.equal(bytes(0), '0 B');
});

test('no line of a table is wider than the terminal, whatever stands in it', () => {
  const columns = [
    { title: 'NAME', value: (row: readonly string[]) => row[0] ?? '' },
    { title: 'STATE', value: (row: readonly string[]) => row[1] ?? '' },
    { title: 'NOTE', value: (row: readonly string[]) => row[2] ?? '' },
  ];
  const rows = fc.array(fc.tuple(fc.string({ unit: 'grapheme' }), fc.string(), fc.string()), { minLength: 1 });
  fc.assert(
    fc.property(rows, fc.integer({ min: 30, max: 120 }), (texts, width) => {
      for (const line of table(columns, texts, { width, paint: noPaint })) {
        assert.ok(widthOf(line) <= width, `${widthOf(line)} > ${width}`);
        assert.ok(
          line.split('').every((each) => each >= ' ' && each !== '\u007f'),
          JSON.stringify(line),
        );
      }
    }),
  );
  assert.equal(cut('abcdef', 4), 'abc…');
});

test('every command that the route table names exists', () => {
  const commands = new Set(commandsOf(programToRead()).map((each) => each.name));
  const missing = Object.values(routes as Readonly<Record<string, Route>>).flatMap((route) =>
    route.cli.filter((each) => !commands.has(each)),
  );
  assert.deepEqual(missing, []);
});

test('the examples in the help name their command and options that it has', async () => {
  for (const { name, command } of commandsOf(programToRead())) {
    const { out } = await cli(undefined, [...name.split(' '), '--help']);
    const examples = out.split('Examples:\n')[1]?.trim().split('\n') ?? [];
    assert.ok(examples.length > 0, `${name} has no example`);
    for (const example of examples.map((each) => each.trim())) {
      assert.ok(example.startsWith(`virga ${name}`), `${name}: ${example}`);
      for (const [, flag] of example.matchAll(/ (--?[a-z][a-z0-9-]*)/g))
        assert.ok(
          command.options.some((each) => each.long === flag || each.short === flag),
          `${name}: ${flag} in "${example}"`,
        );
    }
  }
});

test('the reference and the schema are up to date', () => {
  assert.deepEqual(outdated(undefined, pages(programToRead(local))), [], 'run: node src/docs.ts --write');
});

test('help goes to standard output with exit code 0, wrong usage to standard error with 2', async () => {
  const help = await cli(undefined, ['guest', 'run', '--help']);
  assert.equal(help.code, 0);
  assert.match(help.out, /Examples:\n {2}virga guest run/);
  assert.equal((await cli(undefined, [])).code, 0);
  for (const wrong of [
    ['guest', 'lis'],
    ['gest', 'list'],
    ['guest', 'run'],
    ['guest', 'run', 'a', 'b'],
    ['guest', 'list', '--nonsense'],
    ['guest'],
    ['guest', 'run', 'x', '--count', '0'],
    ['guest', 'run', 'x', '--memory', '5'],
    ['guest', 'list', '-o', 'xml'],
  ]) {
    const ran = await cli(undefined, wrong);
    assert.equal(ran.code, 2, wrong.join(' '));
    assert.doesNotMatch(ran.err, /\n\s+at /, 'a stack trace');
  }
  assert.match((await cli(undefined, ['guest', 'lis'])).err, /Did you mean list/);
});

test('a site that is not there: exit code 3, with what to do; as JSON on standard output', async () => {
  const ran = await cli('/nonexistent/s.sock', ['status']);
  assert.equal(ran.code, 3);
  assert.equal(ran.out, '');
  assert.match(ran.err, /No site answers at \/nonexistent\/s.sock: no such socket\n {2}Start one/);
  const json = await cli('/nonexistent/s.sock', ['status', '--json']);
  assert.equal(json.code, 3);
  assert.equal((JSON.parse(json.out) as { error: { code: string } }).error.code, 'site_unreachable');
});

test('a refusal of the site: exit code 1, message and hint, no stack; causes only with VIRGA_DEBUG', async (t) => {
  const site = await StandIn.start(t, {
    'guest.show': () => {
      throw new VirgaError('not_found', { kind: 'guest', name: 'web\u001b[31m' });
    },
  });
  const ran = await cli(site.socket, ['guest', 'show', 'web']);
  assert.equal(ran.code, 1);
  assert.match(ran.err, /^virga: There is no guest/);
  assert.match(ran.err, /virga guest list/);
  assert.ok(!ran.err.includes(escape), 'text of the site must not steer the terminal');
  assert.doesNotMatch(ran.err, /\n\s+at /);
  assert.match((await cli(site.socket, ['guest', 'show', 'web'], { env: { VIRGA_DEBUG: '1' } })).err, /\n\s+at /);
});

test('colours only on a terminal and without NO_COLOR', async (t) => {
  const site = await StandIn.start(t, { 'site.status': () => siteStatus() });
  assert.ok(!(await cli(site.socket, ['status'])).out.includes(escape));
  assert.ok((await cli(site.socket, ['status'], { terminal: 80 })).out.includes(`${escape}[31m1 failed`));
  const plain = await cli(site.socket, ['status'], { terminal: 80, env: { NO_COLOR: '1' } });
  assert.ok(!plain.out.includes(escape));
});

test('lists: all pages, an array with --json, names with -q, a table within the terminal', async (t) => {
  const first = guest('web-1', {
    status: {
      state: 'failed',
      stateReason: 'a very long reason that no terminal of eighty columns could ever show in one line',
    },
  });
  const site = await StandIn.start(t, {
    'guest.list': ({ query }) =>
      query['cursor'] === 'two' ? page([guest('web-2')]) : { ...page([first]), next: 'two' },
    'host.list': () => page([]),
    'image.list': () => page([]),
    'network.list': () => page([]),
  });
  const json = JSON.parse((await cli(site.socket, ['guest', 'list', '--json'])).out) as { name: string }[];
  assert.deepEqual(
    json.map((each) => each.name),
    ['web-1', 'web-2'],
  );
  assert.equal((await cli(site.socket, ['guest', 'list', '-q'])).out, 'web-1\nweb-2\n');
  const shown = await cli(site.socket, ['guest', 'list'], { terminal: 80, env: { NO_COLOR: '1' } });
  for (const line of shown.out.split('\n')) assert.ok(widthOf(line) <= 80, line);
  assert.match(shown.out, /…/);
  assert.match(
    (await cli(site.socket, ['guest', 'list', '-o', 'wide'])).out,
    /no terminal of eighty columns could ever show in one line/,
  );
});

test('a creation is repeated with the same key when the connection breaks, and sends what was asked for', async (t) => {
  let tries = 0;
  const site = await StandIn.start(t, {
    'guest.run': () => ((tries += 1) < 3 ? broken : { items: [guest('debian-1')], refused: [] }),
  });
  const ran = await cli(site.socket, [
    'guest',
    'run',
    'debian',
    '--cpus',
    '2',
    '--memory',
    '2G',
    '--label',
    'a=-x',
    '--network',
    'lan',
    '--address',
    '10.0.0.5',
    '--reason',
    'für dich',
  ]);
  assert.match(ran.err, /^1 guest accepted; see: virga guest list\nWhen a host is lost: it stays down/);
  assert.equal(ran.out, 'debian-1\n');
  assert.equal(site.asked.length, 3);
  assert.equal(new Set(site.asked.map((each) => each.headers['idempotency-key'])).size, 1);
  assert.ok(site.asked[0]?.headers['idempotency-key']);
  assert.equal(decodeURIComponent(String(site.asked[0]?.headers['virga-reason'])), 'für dich');
  assert.deepEqual(site.asked[0]?.body, {
    image: 'debian',
    cpus: 2,
    memoryMiB: 2048,
    labels: { a: '-x' },
    networks: ['lan'],
    addresses: { lan: '10.0.0.5' },
  });
});

test('names that begin with a dash reach the site after --', async (t) => {
  const site = await StandIn.start(t, { 'guest.show': () => guest('x') });
  await cli(site.socket, ['guest', 'show', '--json', '--', '-x']);
  assert.equal(site.asked[0]?.params['guest'], '-x');
});
