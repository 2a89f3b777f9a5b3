/** Site files, whatever stands in them: what is exported changes nothing, and no text crashes the reader. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Ajv2020 from 'ajv/dist/2020.js';
import * as fc from 'fast-check';
import { parse } from 'yaml';
import { VirgaError } from '../../../src/api/errors.ts';
import type { GuestView, HostView, ImageView, NetworkView } from '../../../src/api/schemas.ts';
import { exportSite, jsonSchema, parseSiteFile, planSite, type SiteState } from '../../../src/api/site-file.ts';
import { guest, host, image, network, siteSettings } from './documents.ts';

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
    recovery: fc.record({
      ha: fc.option(fc.constant('off' as const), { nil: undefined }),
      priority: fc.option(fc.nat(100), { nil: undefined }),
      failBack: fc.option(fc.constant(true), { nil: undefined }),
      limits: fc.option(
        fc
          .tuple(fc.nat(31), fc.nat(31), fc.integer({ min: 1, max: 9000 }))
          .map(([restarts, moves, windowSeconds]) => ({ restarts, moves, windowSeconds })),
        { nil: undefined },
      ),
    }),
    fence: fc.array(
      fc.record({
        agent: fc.constantFrom('fence_apc', 'fence_ipmilan'),
        parameters: fc.dictionary(fc.stringMatching(/^[a-z_]{1,9}$/), text, { maxKeys: 3 }),
        delayMs: fc.integer({ min: 0, max: 600_000 }),
      }),
      { maxLength: 3 },
    ),
    own: fc.option(fc.tuple(fc.integer({ min: 500, max: 9999 }), fc.integer({ min: 100, max: 250 })), {
      nil: undefined,
    }),
  })
  .map(({ hosts, networks, images, guests, recovery, fence, own }) => {
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
          fence,
        },
      };
    });
    const wishes = Object.fromEntries(Object.entries(recovery).filter(([, value]) => value !== undefined));
    return {
      settings: own
        ? { ...siteSettings, leaseProfile: 'own', lease: { lengthMs: own[0], boundMs: own[1], drift: 0.02 } }
        : siteSettings,
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
            ...(index % 2 === 0 ? wishes : {}),
            ...(home && index % 2 === 0 ? { preferredHosts: [home.id] } : {}),
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
      try {
        parseSiteFile('site.yaml', tokens.join(' '));
      } catch (error) {
        assert.ok(error instanceof VirgaError && error.code === 'site_file', String(error));
        for (const line of error.message.split('\n')) assert.match(line, /^(site\.yaml:\d+: |…)/);
      }
    }),
    { numRuns: 300 },
  );
});
