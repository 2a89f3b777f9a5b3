/** What the controller may say, checked field by field before anything believes it. Unknown fields are dropped. */
import { Ajv } from 'ajv';
import Type from 'typebox';
import { maxControllers, type ToAgent } from '../api/link.ts';
import type { Covers } from '../api/report.ts';
import type { Assignment as Model } from '../core/model/assignment.ts';

const text = (maxLength: number) => Type.String({ maxLength });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' });
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Size = Type.Integer({ minimum: 0, maximum: 2 ** 40 });
const Digest = Type.String({ pattern: '^[0-9a-f]{128}$' });
const Name = Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' });
const Address = Type.String({ pattern: '^[0-9a-fA-F.:]{2,45}$' });
const Word = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$' });
const oneOf = (...values: readonly string[]) => Type.Enum([...values]);
const Session = Type.Object({ number: Count, id: Uuid });

const Adopted = Type.Object({ xml: text(4 * 1024 * 1024), persistent: Type.Boolean(), autostart: Type.Boolean() });

const Range = Type.Object({
  cidr: Type.String({ pattern: '^[0-9a-fA-F.:]{2,45}/\\d{1,3}$' }),
  from: Address,
  to: Address,
  gateway: Type.Optional(Address),
});

const Network = Type.Object({
  id: Uuid,
  name: Name,
  mode: oneOf('bridge', 'nat'),
  bridge: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$' }),
  ipv4: Type.Optional(Range),
  ipv6: Type.Optional(Range),
  mtu: Type.Optional(Type.Integer({ minimum: 576, maximum: 65_535 })),
  dns: Type.Object({
    servers: Type.Array(Address, { maxItems: 16 }),
    search: Type.Array(text(253), { maxItems: 16 }),
  }),
});

const Image = Type.Object({
  id: Uuid,
  name: text(63),
  sha512: Digest,
  sizeBytes: Count,
  virtualBytes: Count,
});

const Order = Type.Object({
  id: Uuid,
  name: Name,
  generation: Count,
  epoch: Count,
  owner: text(256),
  community: text(256),
  want: oneOf('keep', 'remove', 'release'),
  power: oneOf('on', 'off'),
  paused: Type.Boolean(),
  held: Type.Boolean(),
  ha: Type.Optional(Type.Literal(true)),
  barred: Type.Optional(Type.Literal(true)),
  image: Type.Optional(
    Type.Object({ sha512: Digest, id: Type.Optional(Uuid), format: Type.Optional(oneOf('raw', 'qcow2')) }),
  ),
  cpus: Size,
  maxCpus: Size,
  memoryMiB: Size,
  maxMemoryMiB: Size,
  diskMiB: Size,
  diskMode: oneOf('keep', 'fresh'),
  nics: Type.Array(
    Type.Object({
      networkId: Uuid,
      mac: Type.String({ pattern: '^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$' }),
      ipv4: Type.Optional(Address),
      ipv6: Type.Optional(Address),
    }),
    { maxItems: 64 },
  ),
  userData: Type.Optional(text(1024 * 1024)),
  sshKeys: Type.Array(text(16_384), { maxItems: 256 }),
  restart: oneOf('always', 'on-failure', 'never'),
  graceSeconds: Type.Integer({ minimum: 0, maximum: 86_400 }),
  startSeq: Count,
  rebootSeq: Count,
  rebuildSeq: Count,
  revert: Type.Optional(Type.Object({ seq: Count, snapshotId: Uuid })),
  snapshots: Type.Array(Type.Object({ id: Uuid, name: text(63), askedAt: Type.Number(), wanted: Type.Boolean() }), {
    maxItems: 1024,
  }),
  machine: Type.Object({ arch: Word, type: Word, firmware: oneOf('bios', 'uefi'), cpuModel: Word }),
  adopted: Type.Optional(Adopted),
});

const Assignment = Type.Object({
  siteId: Uuid,
  hostId: Uuid,
  generation: Count,
  epoch: Count,
  session: Type.Optional(Session),
  destroyNothing: Type.Boolean(),
  guests: Type.Array(Order, { maxItems: 20_000 }),
  networks: Type.Array(Network, { maxItems: 4096 }),
  images: Type.Array(Image, { maxItems: 4096 }),
});

true satisfies Covers<Type.Static<typeof Assignment>, Model>;

const Url = Type.String({ pattern: '^https://[^/?#@\\s]+$', maxLength: 300 });
const Urls = Type.Array(Url, { maxItems: maxControllers });

const schemas = {
  welcome: Type.Object({
    type: Type.Literal('welcome'),
    protocol: Count,
    siteId: Uuid,
    hostId: Uuid,
    controllerVersion: text(64),
    epoch: Type.Optional(Count),
    controllerId: Type.Optional(Uuid),
    controllers: Type.Optional(Urls),
  }),
  standby: Type.Object({
    type: Type.Literal('standby'),
    controllerId: Uuid,
    controllers: Urls,
    leader: Type.Optional(Url),
  }),
  controllers: Type.Object({ type: Type.Literal('controllers'), urls: Urls }),
  assignment: Type.Object({ type: Type.Literal('assignment'), assignment: Assignment }),
  ask: Type.Object({
    type: Type.Literal('ask'),
    id: Count,
    ask: text(32),
    guestId: Type.Optional(Uuid),
    uuid: Type.Optional(Uuid),
    stream: Type.Optional(Uuid),
    what: Type.Optional(oneOf('console', 'log')),
    tailBytes: Type.Optional(Count),
  }),
  refused: Type.Object({
    type: Type.Literal('refused'),
    code: text(64),
    values: Type.Record(Type.String(), Type.Union([text(4096), Type.Number(), Type.Boolean()])),
  }),
};

const ajv = new Ajv({ removeAdditional: 'all', strict: false });
const checks = new Map(Object.entries(schemas).map(([type, schema]) => [type, ajv.compile(schema)]));

export type Parsed =
  | { readonly ok: true; readonly message: ToAgent }
  | { readonly ok: false; readonly problem: string };

/** Reads one text frame. A type that we do not know is a newer controller's, and is passed over. */
export function parseToAgent(frame: string): Parsed | undefined {
  let message: unknown;
  try {
    message = JSON.parse(frame);
  } catch {
    return { ok: false, problem: 'it is no JSON' };
  }
  const given = typeof message === 'object' && message !== null && 'type' in message ? message.type : '';
  const type = typeof given === 'string' ? given : '';
  const check = checks.get(type);
  if (!check) return type === '' ? { ok: false, problem: 'it has no type' } : undefined;
  if (check(message)) return { ok: true, message: message as ToAgent };
  return { ok: false, problem: ajv.errorsText(check.errors).slice(0, 500) };
}
