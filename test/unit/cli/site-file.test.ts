/** Site files: mistakes with their lines, and the plan. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import { isEmpty, parseSiteFile, planSite, type SiteState } from '../../../src/api/site-file.ts';
import { guest, host, image, network, siteSettings } from './documents.ts';

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
    '13: unknown key "extra"; known are site, settings, hosts, networks, images, guests',
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

test('settings of the site: a profile or figures, only what differs is sent', () => {
  const plan = (text: string) =>
    planSite(
      parseSiteFile('site.yaml', `site: lab\nsettings:\n${text}`),
      { ...empty, settings: siteSettings },
      { prune: true },
    );
  assert.ok(isEmpty(plan('  lease: { profile: default }\n  onHostLeave: wait\n  lapseGrace: 5s\n')));
  const [step] = plan('  lease: { length: 3s, bound: 500ms }\n  onHostLeave: stop\n  lapseGrace: 0\n').steps;
  assert.ok(step?.action === 'change' && step.change.kind === 'site');
  assert.deepEqual(step.change.change, { lease: { lengthMs: 3000 }, onHostLeave: 'stop', lapseGraceSeconds: 0 });
  assert.deepEqual(step.differences, [
    { field: 'lease.length', old: '2s', new: '3s' },
    { field: 'onHostLeave', old: 'wait', new: 'stop' },
    { field: 'lapseGrace', old: '5', new: '0' },
  ]);
  const [fast] = plan('  lease: { profile: fast }\n').steps;
  assert.ok(fast?.action === 'change' && fast.change.kind === 'site');
  assert.deepEqual(fast.change.change, { lease: 'fast' });
  assert.deepEqual(problems('site: lab\nsettings:\n  lease: { profile: fast, length: 2s }\n'), [
    '3: settings.lease has both a profile and figures; give one of them',
  ]);
  assert.deepEqual(problems('site: lab\nsettings:\n  lease: { length: 2 }\n'), [
    '3: settings.lease.length must be a time such as 500ms or 2s, not 2',
  ]);
});

test('recovery of guests and fence devices of hosts: what differs, and the whole of what belongs together', () => {
  const [debian, h1, h2] = [image('debian'), host('h1'), host('h2')];
  const spec = {
    image: { id: debian.id, sha512: 'x', format: 'qcow2' },
    preferredHosts: [h1.id],
    limits: { restarts: 9, windowSeconds: 60 },
  } as const;
  const fenced = {
    ...h1,
    spec: { ...h1.spec, fence: [{ agent: 'fence_apc', parameters: { ip: '192.0.2.9', plug: '7' }, delayMs: 500 }] },
  };
  const state: SiteState = {
    ...empty,
    hosts: [fenced, h2],
    images: [debian],
    guests: [guest('web', { spec: { ...spec, preferredHosts: [h1.id] } })],
  };
  const plan = (text: string) => planSite(parseSiteFile('site.yaml', `site: lab\n${text}`), state, { prune: false });
  const web = (text: string) => plan(`guests:\n  web:\n    image: debian\n${text}`).steps;
  assert.deepEqual(
    web('    ha: on\n    priority: 50\n    prefer: [h1]\n    failBack: false\n    limits: { moves: 5 }\n'),
    [],
  );
  const [step] = web('    ha: off\n    prefer: [h2, h1]\n    limits: { moves: 2 }\n');
  assert.ok(step?.action === 'change' && step.change.kind === 'guest');
  assert.deepEqual(step.change.change, {
    ha: 'off',
    preferredHosts: ['h2', 'h1'],
    limits: { restarts: 9, moves: 2, windowSeconds: 60 },
  });
  assert.deepEqual(
    problemsOf(() => web('    prefer: [h9]\n')),
    ['5: there is no host "h9", neither in this file nor on the site'],
  );
  const fence = (delay: string): string =>
    `hosts:\n  h1:\n    fence:\n      - { agent: fence_apc, parameters: { plug: "7", ip: 192.0.2.9 }, delay: ${delay} }\n`;
  assert.ok(isEmpty(plan(fence('500ms'))), 'the order of parameters does not count');
  const [change] = plan(fence('1s')).steps;
  assert.ok(change?.action === 'change' && change.change.kind === 'host');
  assert.deepEqual(change.change.change, {
    fence: [{ agent: 'fence_apc', parameters: { plug: '7', ip: '192.0.2.9' }, delayMs: 1000 }],
  });
  const [none] = plan('hosts:\n  h1: { fence: [] }\n').steps;
  assert.ok(none?.action === 'change' && none.change.kind === 'host');
  assert.deepEqual(none.change.change, { fence: [] });
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
