/** Site files: mistakes with their lines, the plan, and that what is exported changes nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Ajv2020 from 'ajv/dist/2020.js';
import * as fc from 'fast-check';
import { parse } from 'yaml';
import { VirgaError } from '../../../src/api/errors.ts';
import type { GuestView, HostView, ImageView, NetworkView } from '../../../src/api/schemas.ts';
import {
  exportSite,
  isEmpty,
  jsonSchema,
  parseSiteFile,
  planSite,
  type SiteState,
} from '../../../src/api/site-file.ts';
import { guest, host, image, network } from './documents.ts';

const empty: SiteState = { hosts: [], networks: [], images: [], guests: [] };

/** `LINE: detail` of each problem. */
function problemsOf(act: () => unknown): string[] {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof VirgaError && error.code === 'site_file', String(error));
    return error.message.split('\n').map((line) => line.replace(/^site\.yaml:/, ''));
  }
  return [];
}
const problems = (text: string): string[] => problemsOf(() => parseSiteFile('site.yaml', text));

const good = `site: lab
hosts:
  h1:
    labels: { rack: "3" }
    reserved: { cpus: 0.5, memory: 4G }
networks:
  lan: { mode: bridge, bridge: br0, ipv4: { cidr: 10.0.0.0/24, gateway: 10.0.0.1 } }
images:
  debian: { file: debian.qcow2, format: qcow2 }
guests:
  web:
    image: debian
    count: 2
    memory: 1G
    networks: [lan]
    grace: 1m
`;

test('a good file is read, sizes as MiB and durations as seconds', () => {
  const file = parseSiteFile('site.yaml', good);
  assert.equal(file.site, 'lab');
  assert.equal(file.guests['web']?.memory, 1024);
  assert.equal(file.guests['web']?.grace, 60);
  assert.deepEqual(file.hosts['h1']?.reserved, { cpus: 0.5, memory: 4096 });
});

test('all mistakes at once, each with its line', () => {
  const found = problems(`site: Lab
guests:
  web:
    image: debian
    cpu: 2
    memory: 512
    count: many
    restart: sometimes
    labels: { tier: 3 }
  -bad: { image: x }
networks:
  lan: { bridge: br0 }
extra: 1
`);
  assert.deepEqual(found, [
    '1: site is not valid: "Lab"',
    '5: unknown key "cpu" in guests.web; did you mean cpus?',
    '6: guests.web.memory must be a size such as 512M or 2G, not 512',
    '7: guests.web.count must be a whole number, not the text "many"',
    '8: guests.web.restart must be one of always, on-failure, never, not the text "sometimes"',
    '9: guests.web.labels.tier must be text; put it in quotes: "3"',
    '10: "-bad" in guests is not a name (lower-case letters, digits and hyphens)',
    '12: networks.lan lacks "mode"',
    '13: unknown key "extra"; known are site, hosts, networks, images, guests',
  ]);
});

test('what is no YAML, what is given twice, and what makes no sense', () => {
  assert.match(problems('site: [')[0] ?? '', /^\d+: not YAML/);
  assert.deepEqual(problems('site: lab\nguests:\n  a: { image: x }\n  a: { image: y }\n'), ['4: the same key twice']);
  assert.deepEqual(problems(''), ['1: it is empty; it needs at least "site: NAME"']);
  assert.deepEqual(problems('- 1'), ['1: the file must be a group of keys, not a list']);
  assert.deepEqual(problems('site: lab\nguests:\n  web: { image: x, count: 2 }\n  web-2: { image: x }\n'), [
    '4: guests.web-2 makes the guest "web-2", and so does guests.web',
  ]);
  assert.deepEqual(problems('site: lab\nimages:\n  a: { file: x, url: "https://y", format: raw }\n'), [
    '3: images.a has both file and url; give one',
  ]);
  assert.deepEqual(problems('site: lab\nguests:\n  web:\n'), ['3: guests.web has no value']);
  assert.deepEqual(problems('site: lab\nguests:\n  web: *nobody\n').length, 1);
});

test('a file cannot make the reader work without bound', () => {
  const bomb = `site: lab\na: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghij'
    .split('')
    .map((key, index) => `${key}: &${key} [${Array.from({ length: 9 }, () => `*${'abcdefghij'[index]}`).join(',')}]`)
    .join('\n')}\n`;
  const started = performance.now();
  assert.ok(problems(bomb).length > 0);
  assert.ok(performance.now() - started < 2000);
});

test('names that lead nowhere are refused with their line, unless the site has them', () => {
  const text =
    'site: lab\nguests:\n  web:\n    image: debian\n    host: h9\n    networks: [lan]\nimages:\n  other: { format: raw }\n';
  assert.deepEqual(
    problemsOf(() => planSite(parseSiteFile('site.yaml', text), empty, { prune: false })),
    [
      '4: there is no image "debian", neither in this file nor on the site',
      '5: there is no host "h9", neither in this file nor on the site',
      '6: there is no network "lan", neither in this file nor on the site',
      '8: the image "other" is not on the site, and images.other has neither file nor url',
    ],
  );
  const state = {
    hosts: [host('h9')],
    networks: [network('lan')],
    images: [image('debian'), image('other', { spec: { format: 'raw' } })],
    guests: [],
  };
  const plan = planSite(parseSiteFile('site.yaml', text), state, { prune: false });
  assert.deepEqual(
    plan.steps.map((step) => step.action),
    ['create'],
  );
});

test('networks and images come before guests, and carry the name of the file', () => {
  const plan = planSite(parseSiteFile('site.yaml', good), { ...empty, hosts: [host('h1')] }, { prune: false });
  const shown = plan.steps.map((step) =>
    step.action === 'create'
      ? `+${step.create.kind} ${step.create.name}`
      : step.action === 'change'
        ? `~${step.change.name}`
        : step.action,
  );
  assert.deepEqual(shown, ['+network lan', '+image debian', '~h1', '+guest web-1', '+guest web-2']);
  for (const step of plan.steps)
    if (step.action === 'create' && step.create.kind !== 'image') assert.equal(step.create.body.origin, 'lab');
});

test('a host that has not joined waits; the rest is planned', () => {
  const plan = planSite(parseSiteFile('site.yaml', 'site: lab\nhosts:\n  h7: { cordoned: true }\n'), empty, {
    prune: true,
  });
  assert.deepEqual(plan.steps, []);
  assert.equal(plan.waiting[0]?.name, 'h7');
  assert.equal(isEmpty(plan), false);
});

test('changes say old and new; what cannot be changed makes it anew', () => {
  const debian = image('debian');
  const state = {
    ...empty,
    images: [debian],
    guests: [
      guest('web', {
        labels: { role: 'web', old: '1' },
        spec: { image: { id: debian.id, sha512: 'x', format: 'qcow2' } },
      }),
    ],
  };
  const plan = (text: string) =>
    planSite(parseSiteFile('site.yaml', `site: lab\nguests:\n  web:\n    image: debian\n${text}`), state, {
      prune: false,
    });
  assert.deepEqual(plan('').steps, []);
  const [step] = plan('    memory: 1G\n    labels: { role: db }\n    restart: always\n').steps;
  assert.ok(step?.action === 'change' && step.change.kind === 'guest');
  assert.deepEqual(step.differences, [
    { field: 'memory', old: '512M', new: '1G' },
    { field: 'labels.role', old: 'web', new: 'db' },
    { field: 'labels.old', old: '1' },
    { field: 'restart', old: 'on-failure', new: 'always' },
  ]);
  assert.deepEqual(step.change.change, { labels: { role: 'db', old: null }, restart: 'always' });
  assert.deepEqual(step.change.resize, { memoryMiB: 1024 });
  assert.equal(plan('    firmware: uefi\n').steps[0]?.action, 'replace');
  assert.equal(plan('    disk: 512M\n').steps[0]?.action, 'replace', 'a disk only grows');
  assert.equal(plan('    disk: 2G\n').steps[0]?.action, 'change');
});

test('nothing is deleted without --prune, and then only what this file created', () => {
  const state = {
    ...empty,
    images: [image('mine', { origin: 'lab' }), image('theirs')],
    guests: [
      guest('mine-1', { origin: 'lab' }),
      guest('other-file', { origin: 'prod' }),
      guest('by-hand'),
      guest('going', { origin: 'lab', deletionAt: '2026-01-01T00:00:00Z' }),
    ],
    networks: [network('net', { origin: 'lab' })],
  };
  const file = parseSiteFile('site.yaml', 'site: lab\n');
  const kept = planSite(file, state, { prune: false });
  assert.deepEqual(kept.steps, []);
  assert.equal(kept.kept.length, 3);
  const pruned = planSite(file, state, { prune: true });
  assert.deepEqual(
    pruned.steps.map((step) => (step.action === 'delete' ? `${step.kind} ${step.name}` : step.action)),
    ['guest mine-1', 'image mine', 'network net'],
  );
});

// ---------------------------------------------------------------- properties

const nameOf = fc.stringMatching(/^[a-z]([a-z0-9-]{0,10}[a-z0-9])?$/);
const label = fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9./_-]{0,8}$/), fc.string({ maxLength: 20 }), {
  maxKeys: 3,
});
const text = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.constantFrom(
    'true',
    '1',
    'null',
    '~',
    '*a',
    '&a x',
    '#cloud-config\nusers: []\n',
    '- x\n',
    ' lead',
    '"q"',
    "it's",
    '2026-01-01',
    '0x10',
    'é\n\n',
    '\t',
  ),
);

const states: fc.Arbitrary<SiteState> = fc
  .record({
    hosts: fc.uniqueArray(fc.tuple(nameOf, label, fc.boolean(), text, fc.nat(64), fc.nat(5000)), {
      selector: ([name]) => name,
      maxLength: 3,
    }),
    networks: fc.uniqueArray(fc.tuple(nameOf, label, fc.constantFrom('bridge', 'nat'), fc.constantFrom(4, 6, 0)), {
      selector: ([name]) => name,
      maxLength: 3,
    }),
    images: fc.uniqueArray(fc.tuple(nameOf, label, text), { selector: ([name]) => name, minLength: 1, maxLength: 3 }),
    guests: fc.uniqueArray(
      fc.tuple(
        nameOf,
        label,
        text,
        fc.nat(10),
        fc.integer({ min: 1, max: 9000 }),
        fc.constantFrom('always', 'on-failure', 'never'),
      ),
      { selector: ([name]) => name, maxLength: 5 },
    ),
  })
  .map(({ hosts, networks, images, guests }) => {
    const nets = networks.map(([name, labels, mode, family]): NetworkView => {
      const v4 = { cidr: '10.1.0.0/16', from: '10.1.0.9', to: '10.1.9.9', gateway: '10.1.0.1' };
      const v6 = { cidr: 'fd77::/64', from: 'fd77::10', to: 'fd77::ffff' };
      const gateway = mode === 'nat' ? { gateway: 'fd77::1' } : {};
      return network(name, {
        labels,
        origin: 'lab',
        spec: {
          mode,
          bridge: 'br7',
          dns: { servers: ['10.0.0.53'], search: [] },
          ...(family === 4 ? { ipv4: v4 } : {}),
          ...(family === 6 ? { ipv6: { ...v6, ...gateway } } : {}),
        },
      });
    });
    const pictures = images.map(([name, labels, description]): ImageView =>
      image(name, { labels, spec: { format: 'qcow2', description } }),
    );
    const machines = hosts.map(([name, labels, cordoned, reason, cpus, memoryMiB]): HostView => {
      const made = host(name, { labels });
      return {
        ...made,
        spec: {
          ...made.spec,
          cordoned,
          ...(cordoned ? { cordonReason: reason } : {}),
          reserved: { cpus, memoryMiB, diskMiB: 0 },
        },
      };
    });
    return {
      hosts: machines,
      networks: nets,
      images: pictures,
      guests: guests.map(([name, labels, userData, grace, memoryMiB, restart], index): GuestView => {
        const picture = pictures[index % pictures.length] as ImageView;
        const net = nets[index % Math.max(1, nets.length)];
        const nics =
          net && index % 2 === 0
            ? [{ networkId: net.id, mac: '52:54:00:00:00:01', ...(net.spec.ipv4 ? { ipv4: '10.1.0.50' } : {}) }]
            : [];
        const home = machines[index % Math.max(1, machines.length)];
        return guest(name, {
          labels,
          origin: 'lab',
          spec: {
            image: { id: picture.id, sha512: 'x', format: 'qcow2' },
            nics,
            memoryMiB,
            maxMemoryMiB: memoryMiB + 7,
            graceSeconds: grace,
            restart,
            ...(userData === '' ? {} : { userData }),
            ...(home && index % 3 === 0 ? { hostId: home.id } : {}),
          },
        });
      }),
    };
  });

test('what is exported and applied changes nothing, and its text fits the schema for editors', () => {
  const fits = new Ajv2020.default({ strict: false }).compile(jsonSchema());
  fc.assert(
    fc.property(states, (state) => {
      const text = exportSite('lab', state);
      assert.ok(fits(parse(text)), JSON.stringify(fits.errors));
      const plan = planSite(parseSiteFile('export.yaml', text), state, { prune: true });
      assert.deepEqual(plan, { site: 'lab', steps: [], kept: [], waiting: [] });
    }),
    { numRuns: 150 },
  );
});

test('whatever stands in a file, it is read or refused with a line, never a crash', () => {
  const words = fc.constantFrom(
    'site',
    'guests',
    'web',
    'image',
    'memory',
    'labels',
    'networks',
    'count',
    'null',
    '1',
    '2G',
    'x',
    '&a',
    '*a',
    '[',
    '{',
    '}',
    ']',
    ':',
    '-',
    '\n',
    '\n  ',
    '\n    ',
    ' ',
    '"',
    '#',
    '!!',
    '|',
  );
  fc.assert(
    fc.property(fc.array(words, { maxLength: 40 }), (tokens) => {
      for (const problem of problems(tokens.join(' '))) assert.match(problem, /^(\d+: |…)/);
    }),
    { numRuns: 300 },
  );
});
