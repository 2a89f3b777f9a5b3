/**
 * What agents send, as schemas. Unknown fields are dropped on receipt, so that an agent one version newer may send some;
 * whatever is of the wrong shape or size is refused before anybody looks at it. Instants are milliseconds on this link.
 */
import Type from 'typebox';
import type { HostReport } from '../core/model/assignment.ts';
import { namePattern } from '../core/model/resource.ts';
import { limits } from '../core/requests/check.ts';

const Opt = Type.Optional;
const Text = (maxLength = 1024) => Type.String({ maxLength });
const Id = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
const Instant = Type.Number({ minimum: 0, maximum: 8.64e15 });
const Whole = Type.Integer({ minimum: -1, maximum: Number.MAX_SAFE_INTEGER });
const Amount = Type.Number({ minimum: 0, maximum: 1e12 });
const Enum = <const V extends readonly string[]>(values: V) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values] });
const Session = Type.Object({ number: Whole, id: Id });
const Digest = Type.String({ pattern: '^[0-9a-f]{128}$' });
const Resources = Type.Object({ cpus: Amount, memoryMiB: Amount, diskMiB: Amount });

const Address = Type.Object({
  source: Enum(['assigned', 'agent']),
  family: Type.Unsafe<4 | 6>({ type: 'integer', enum: [4, 6] }),
  address: Text(64),
  interface: Opt(Text(64)),
});

const GuestReport = Type.Object({
  id: Id,
  engine: Enum(['absent', 'running', 'paused', 'shutoff', 'crashed', 'io-error']),
  observedAt: Instant,
  generation: Whole,
  accepted: Opt(Whole),
  inside: Opt(Type.Boolean()),
  frozen: Opt(Type.Boolean()),
  since: Opt(Type.Object({ startedAt: Instant })),
  preparing: Opt(Type.Object({ what: Text(200), progress: Type.Number() })),
  exit: Opt(
    Type.Object({
      reason: Enum(['shutdown', 'destroyed', 'crashed', 'failed', 'host-reboot', 'lease-lost', 'unknown']),
      exitAt: Instant,
    }),
  ),
  restarts: Whole,
  startSeq: Whole,
  rebootSeq: Whole,
  rebuildSeq: Whole,
  revertSeq: Whole,
  cpus: Opt(Whole),
  memoryMiB: Opt(Whole),
  cpuPercent: Opt(Amount),
  addresses: Type.Array(Address, { maxItems: 256 }),
  agentConnected: Opt(Type.Boolean()),
  snapshots: Type.Array(
    Type.Object({ id: Id, state: Enum(['ready', 'failed']), error: Opt(Text()), createdAt: Instant }),
    { maxItems: 1024 },
  ),
  error: Opt(Type.Object({ code: Text(64), message: Text(4096), errorAt: Instant, gaveUp: Type.Boolean() })),
});

const Engine = Type.Object({
  type: Text(64),
  libvirtVersion: Text(64),
  emulatorVersion: Text(64),
  arch: Text(64),
  kvm: Type.Boolean(),
  machines: Type.Array(Text(128), { maxItems: 1024 }),
  cpuModels: Type.Array(Text(128), { maxItems: 1024 }),
  firmwares: Type.Array(Enum(['bios', 'uefi']), { maxItems: 2 }),
});

const Foreign = Type.Object({
  uuid: Id,
  name: Text(),
  running: Type.Boolean(),
  cpus: Whole,
  memoryMiB: Whole,
  persistent: Type.Boolean(),
  autostart: Type.Boolean(),
});

/** What an agent kept of an order that this controller, or one before a restore, gave it. */
const Order = Type.Object({
  id: Id,
  name: Type.String({ pattern: namePattern }),
  generation: Whole,
  epoch: Whole,
  owner: Text(256),
  community: Text(256),
  want: Enum(['keep', 'remove', 'release']),
  power: Enum(['on', 'off']),
  paused: Type.Boolean(),
  held: Type.Boolean(),
  ha: Opt(Type.Literal(true)),
  barred: Opt(Type.Literal(true)),
  image: Opt(Type.Object({ sha512: Digest, id: Opt(Id), format: Opt(Enum(['raw', 'qcow2'])) })),
  cpus: Whole,
  maxCpus: Whole,
  memoryMiB: Whole,
  maxMemoryMiB: Whole,
  diskMiB: Whole,
  diskMode: Enum(['keep', 'fresh']),
  nics: Type.Array(
    Type.Object({
      networkId: Id,
      mac: Type.String({ pattern: '^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$' }),
      ipv4: Opt(Text(64)),
      ipv6: Opt(Text(64)),
    }),
    { maxItems: 64 },
  ),
  userData: Opt(Text(limits.userDataBytes)),
  sshKeys: Type.Array(Text(limits.sshKeyBytes), { maxItems: limits.sshKeys }),
  restart: Enum(['always', 'on-failure', 'never']),
  graceSeconds: Whole,
  startSeq: Whole,
  rebootSeq: Whole,
  rebuildSeq: Whole,
  revert: Opt(Type.Object({ seq: Whole, snapshotId: Id })),
  snapshots: Type.Array(
    Type.Object({ id: Id, name: Type.String({ pattern: namePattern }), askedAt: Instant, wanted: Type.Boolean() }),
    { maxItems: 1024 },
  ),
  machine: Type.Object({ arch: Text(64), type: Text(64), firmware: Enum(['bios', 'uefi']), cpuModel: Text(64) }),
  adopted: Opt(
    Type.Object({
      xml: Text(limits.adoptedXmlBytes),
      persistent: Type.Boolean(),
      autostart: Type.Boolean(),
    }),
  ),
});

const Stray = Type.Object({
  id: Id,
  name: Text(),
  running: Type.Boolean(),
  generation: Whole,
  cpus: Whole,
  memoryMiB: Whole,
  order: Opt(Order),
  orderLater: Opt(Type.Boolean()),
});

const Lease = Type.Object({
  diskId: Id,
  addresses: Type.Array(Text(64), { maxItems: 2 }),
  version: Text(64),
  state: Enum(['held', 'lapsed', 'none', 'killing']),
  leftMs: Amount,
  epoch: Whole,
  guardLagMs: Opt(Amount),
  roundTripsMs: Type.Record(Text(64), Amount),
});

/** The whole state of a host. The type is `HostReport`; the compiler holds the two together below. */
export const HostReportSchema = Type.Object({
  hostId: Id,
  session: Session,
  agentVersion: Text(64),
  protocol: Whole,
  observedAt: Instant,
  sequence: Opt(Whole),
  lease: Opt(Lease),
  assignmentGeneration: Whole,
  assignmentEpoch: Whole,
  engine: Opt(Engine),
  network: Type.Object({ bridges: Type.Array(Text(64), { maxItems: 4096 }) }),
  measured: Resources,
  used: Type.Object({ cpuPercent: Amount, memoryMiB: Amount, diskMiB: Amount }),
  guests: Type.Array(GuestReport, { maxItems: 20_000 }),
  gone: Type.Array(Type.Object({ id: Id, generation: Whole }), { maxItems: 20_000 }),
  foreign: Type.Array(Foreign, { maxItems: 20_000 }),
  strays: Type.Array(Stray, { maxItems: 20_000 }),
  images: Type.Array(Digest, { maxItems: 20_000 }),
  networkProblems: Type.Array(Type.Object({ networkId: Id, message: Text() }), { maxItems: 4096 }),
  problems: Type.Array(Text(4096), { maxItems: 256 }),
});

/** Fails to compile when schema and model drift apart. */
export const asReport = (report: Type.Static<typeof HostReportSchema>): HostReport => report;

/** The fields of a type at every depth, whether they may be absent or not. */
type Fields<T> = T extends readonly (infer E)[]
  ? readonly Fields<E>[]
  : T extends object
    ? { [K in keyof T]-?: Fields<NonNullable<T[K]>> }
    : true;
/** `never` when the schema lacks a field of its model: on receipt it would be dropped without a word. */
export type Covers<Schema, Model> = Fields<Schema> extends Fields<Model> ? true : never;
true satisfies Covers<Type.Static<typeof HostReportSchema>, HostReport>;

export const Hello = Type.Object({
  type: Type.Literal('hello'),
  agentVersion: Text(64),
  protocolMin: Type.Integer({ minimum: 0, maximum: 1e6 }),
  protocolMax: Type.Integer({ minimum: 0, maximum: 1e6 }),
  session: Session,
});
export type Hello = Type.Static<typeof Hello>;

export const Report = Type.Object({ type: Type.Literal('report'), report: HostReportSchema });
export type Report = Type.Static<typeof Report>;

export const AnswerMessage = Type.Object({
  type: Type.Literal('answer'),
  id: Whole,
  ok: Type.Boolean(),
  value: Opt(Type.Unknown()),
  error: Opt(
    Type.Object({
      code: Text(64),
      values: Type.Record(Type.String(), Type.Union([Text(4096), Type.Number(), Type.Boolean()])),
    }),
  ),
});
export type AnswerMessage = Type.Static<typeof AnswerMessage>;

/** What an agent's answers carry, by question. */
export const AskAnswer = {
  log: Type.Object({ text: Type.String(), truncated: Type.Boolean() }),
  inspect: Type.Object({
    name: Text(),
    cpus: Whole,
    memoryMiB: Whole,
    xml: Type.String({ maxLength: 1024 * 1024 }),
    persistent: Type.Boolean(),
    autostart: Type.Boolean(),
  }),
  open: Type.Object({}),
  'destroy-stray': Type.Object({}),
} as const;
