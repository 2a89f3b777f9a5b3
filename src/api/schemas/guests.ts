import Type from 'typebox';
import {
  Obj,
  Enum,
  Opt,
  Name,
  Reference,
  At,
  Id,
  Labels,
  LabelChange,
  Cpus,
  MemoryMiB,
  DiskMiB,
  Grace,
  meta,
  Session,
  ImageFormat,
} from './common.ts';
import { limits } from '../../core/requests/check.ts';

export const GuestState = Enum([
  'pending',
  'starting',
  'running',
  'paused',
  'stopping',
  'stopped',
  'failed',
  'unknown',
  'deleting',
]);
const DiskMode = Enum(['keep', 'fresh'], 'keep: one overlay for life; fresh: a new one at each start');
const Restart = Enum(['always', 'on-failure', 'never']);
const Firmware = Enum(['bios', 'uefi']);
const Ha = Enum(['on', 'off'], 'off: never started elsewhere by itself; on: where its disk allows it');
const Priority = Type.Integer({
  minimum: 0,
  maximum: 100,
  description: 'Who is recovered first, higher first; 50 when absent',
});
const limitFields = {
  restarts: Opt(Type.Integer({ minimum: 0, maximum: 31 })),
  moves: Opt(Type.Integer({ minimum: 0, maximum: 31 })),
  windowSeconds: Type.Integer({ minimum: 1, maximum: 30 * 86_400 }),
};
/** What a person may say of recovery, on creation and later. */
const recovery = {
  ha: Opt(Ha),
  priority: Opt(Priority),
  preferredHosts: Opt(
    Type.Array(Reference, { maxItems: 16, description: 'Best first; another is taken when none of these fits' }),
  ),
  failBack: Opt(Type.Boolean({ description: 'Moves back to a preferred host when that fits again; costs a restart' })),
  limits: Opt(
    Obj(
      { ...limitFields, windowSeconds: Opt(limitFields.windowSeconds) },
      { description: 'More restarts or moves within the window and it is given up until guest cleanup' },
    ),
  ),
};
const Nic = Obj({ networkId: Id, mac: Type.String(), ipv4: Opt(Type.String()), ipv6: Opt(Type.String()) });
const Adopted = Obj({ xml: Type.String(), persistent: Type.Boolean(), autostart: Type.Boolean() });
const Observed = Obj({
  engine: Enum(['absent', 'running', 'paused', 'shutoff', 'crashed', 'io-error']),
  observedAt: At,
  generation: Type.Integer(),
  accepted: Opt(Type.Integer()),
  inside: Opt(Type.Boolean({ description: 'It freezes with the lease of its host' })),
  frozen: Opt(Type.Boolean({ description: 'Frozen with the lapsed lease of its host' })),
  since: Opt(Obj({ startedAt: At })),
  preparing: Opt(Obj({ what: Type.String(), progress: Type.Number() })),
  exit: Opt(
    Obj({
      reason: Enum(['shutdown', 'destroyed', 'crashed', 'failed', 'host-reboot', 'lease-lost', 'unknown']),
      exitAt: At,
    }),
  ),
  restarts: Type.Integer(),
  startSeq: Type.Integer(),
  rebootSeq: Type.Integer(),
  rebuildSeq: Type.Integer(),
  revertSeq: Type.Integer(),
  cpus: Opt(Type.Integer()),
  memoryMiB: Opt(Type.Integer()),
  cpuPercent: Opt(Type.Number()),
  addresses: Type.Array(
    Obj({
      source: Enum(['assigned', 'agent']),
      family: Type.Unsafe<4 | 6>({ type: 'integer', enum: [4, 6] }),
      address: Type.String(),
      interface: Opt(Type.String()),
    }),
  ),
  agentConnected: Opt(Type.Boolean()),
  snapshots: Type.Array(Obj({ id: Id, state: Enum(['ready', 'failed']), error: Opt(Type.String()), createdAt: At })),
  error: Opt(Obj({ code: Type.String(), message: Type.String(), errorAt: At, gaveUp: Type.Boolean() })),
});
export const Guest = Obj({
  kind: Type.Literal('guest'),
  ...meta,
  spec: Obj({
    image: Opt(Obj({ id: Id, sha512: Type.String(), format: ImageFormat })),
    cpus: Type.Integer(),
    maxCpus: Type.Integer(),
    memoryMiB: Type.Integer(),
    maxMemoryMiB: Type.Integer(),
    diskMiB: Type.Integer(),
    diskMode: DiskMode,
    nics: Type.Array(Nic),
    userData: Opt(Type.String()),
    sshKeys: Type.Array(Type.String()),
    restart: Restart,
    ha: Opt(Type.Literal('off')),
    priority: Opt(Priority),
    preferredHosts: Opt(Type.Array(Id)),
    failBack: Opt(Type.Boolean()),
    limits: Opt(Obj(limitFields)),
    hostId: Opt(Id),
    power: Enum(['on', 'off']),
    paused: Type.Boolean(),
    graceSeconds: Type.Integer(),
    stopGraceSeconds: Opt(Type.Integer()),
    startSeq: Type.Integer(),
    rebootSeq: Type.Integer(),
    rebuildSeq: Type.Integer(),
    revert: Opt(Obj({ seq: Type.Integer(), snapshotId: Id })),
    snapshots: Type.Array(Obj({ id: Id, name: Name, askedAt: At, wanted: Type.Boolean() })),
    held: Opt(Obj({ reason: Type.String(), heldAt: At })),
    machine: Obj({ arch: Type.String(), type: Type.String(), firmware: Firmware, cpuModel: Type.String() }),
    adopted: Opt(Adopted),
    releasing: Opt(Type.Boolean()),
  }),
  status: Obj({
    state: GuestState,
    stateAt: At,
    stateReason: Opt(Type.String()),
    placement: Opt(
      Obj({
        hostId: Id,
        session: Opt(Session),
        epoch: Type.Integer(),
        generation: Type.Integer(),
        placedAt: At,
        ha: Opt(Type.Literal(true)),
        reasons: Type.Array(Type.String()),
      }),
    ),
    lastGeneration: Type.Integer(),
    movedAt: Opt(Type.Array(At, { description: 'When recovery moved it, newest last' })),
    restartedAt: Opt(Type.Array(At, { description: 'When its host restarted it, newest last' })),
    recovery: Opt(
      Obj(
        { from: Type.String(), why: Enum(['lost', 'fail-back']), sinceAt: At },
        { description: 'It is to start anew elsewhere' },
      ),
    ),
    waits: Opt(Type.String({ description: 'Why it is not started yet although it should be' })),
    exhausted: Opt(
      Obj(
        { what: Enum(['restarts', 'moves']), exhaustedAt: At },
        { description: 'Given up after too many; guest cleanup ends it' },
      ),
    ),
    unplaced: Opt(Type.Array(Type.String())),
    observed: Opt(Observed),
    lost: Opt(Obj({ host: Type.String(), lostAt: At })),
  }),
});
export const RunGuest = Obj({
  name: Opt(Name),
  image: Reference,
  count: Opt(Type.Integer({ minimum: 1, maximum: limits.guestsAtOnce })),
  partial: Opt(Type.Boolean()),
  cpus: Opt(Cpus),
  maxCpus: Opt(Cpus),
  memoryMiB: Opt(MemoryMiB),
  maxMemoryMiB: Opt(MemoryMiB),
  diskMiB: Opt(DiskMiB('MiB; at least the image’s virtual size')),
  diskMode: Opt(DiskMode),
  networks: Opt(Type.Array(Reference, { maxItems: limits.networksPerGuest })),
  addresses: Opt(Type.Record(Type.String(), Type.String())),
  labels: Opt(Labels),
  userData: Opt(Type.String({ maxLength: limits.userDataBytes })),
  sshKeys: Opt(Type.Array(Type.String({ maxLength: limits.sshKeyBytes }), { maxItems: limits.sshKeys })),
  restart: Opt(Restart),
  ...recovery,
  host: Opt(Reference),
  graceSeconds: Opt(Grace),
  firmware: Opt(Firmware),
  machineType: Opt(Type.String({ maxLength: 64, pattern: '^[A-Za-z0-9._-]+$' })),
  cpuModel: Opt(Type.String({ maxLength: 64, pattern: '^[A-Za-z0-9._-]+$' })),
  origin: Opt(Name),
});
export const Resize = Obj({
  cpus: Opt(Cpus),
  memoryMiB: Opt(MemoryMiB),
  maxCpus: Opt(Cpus),
  maxMemoryMiB: Opt(MemoryMiB),
  diskMiB: Opt(DiskMiB('MiB; grows only')),
});
export const GuestChange = Obj({
  labels: Opt(LabelChange),
  restart: Opt(Restart),
  graceSeconds: Opt(Grace),
  name: Opt(Name),
  ...recovery,
});
export const Stop = Obj({
  force: Opt(Type.Boolean({ description: 'At once, without asking the guest' })),
  graceSeconds: Opt(Grace),
});
export const Adopt = Obj({ host: Reference, domain: Type.String({ minLength: 1, maxLength: 255 }), name: Opt(Name) });
export const Explanation = Obj({
  guest: Name,
  state: GuestState,
  stateReason: Opt(Type.String()),
  ha: Opt(
    Obj(
      { ha: Type.Boolean(), why: Opt(Type.String()) },
      { description: 'Whether it is started elsewhere when its host is lost, and why not' },
    ),
  ),
  host: Opt(Name),
  reasons: Type.Array(Type.String()),
  hosts: Type.Array(
    Obj({
      host: Name,
      fits: Type.Boolean(),
      chosen: Type.Boolean(),
      reasons: Type.Array(Type.String()),
    }),
  ),
});
