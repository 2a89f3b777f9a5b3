import Type from 'typebox';
import { Obj, Enum, Opt, At, Id, LabelChange, meta, Resources, Session } from './common.ts';
import { limits } from '../../core/requests/check.ts';

export const HostRole = Enum(['host', 'witness'], 'A witness votes on leases and carries no guests');
/** Parameter values are shown: `fence_*` programs read secrets from files (`passwd_file`), and no others are taken. */
export const FenceDevice = Obj({
  agent: Type.String({ pattern: '^fence_[a-z0-9_]{1,60}$', description: 'A fence_* program of the distribution' }),
  parameters: Type.Record(Type.String({ pattern: '^[a-zA-Z0-9_-]{1,64}$' }), Type.String({ maxLength: 1024 }), {
    maxProperties: 32,
    description:
      'Given on its standard input; a secret is a file in DATA/fence on each controller’s machine: NAME_file=FILE',
  }),
  delayMs: Opt(Type.Integer({ minimum: 0, maximum: 600_000, description: 'Milliseconds to wait before it is used' })),
});
export const Host = Obj({
  kind: Type.Literal('host'),
  ...meta,
  spec: Obj({
    role: Opt(HostRole),
    fence: Opt(Type.Array(FenceDevice)),
    cordoned: Type.Boolean(),
    cordonReason: Opt(Type.String()),
    reserved: Resources,
    overcommit: Obj({ cpu: Type.Number(), memory: Type.Number() }),
    capacity: Opt(Obj({ cpus: Opt(Type.Number()), memoryMiB: Opt(Type.Number()), diskMiB: Opt(Type.Number()) })),
  }),
  status: Obj({
    keeper: Opt(
      Obj({
        diskId: Id,
        addresses: Type.Array(Type.String({ description: 'Where it hears beats' })),
        version: Opt(Type.String()),
      }),
    ),
    loss: Opt(
      Obj(
        {
          session: Session,
          lostAt: At,
          how: Enum(
            ['lease', 'fence', 'word', 'ended'],
            'lease: sealed by a majority, every grant ran out; fence: power off confirmed; word: a person said so; ended: the host said so as it went down',
          ),
          evidence: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
        },
        { description: 'The last session that was declared over' },
      ),
    ),
    state: Enum(['invited', 'online', 'silent', 'lost', 'fenced']),
    stateAt: At,
    lastHeardAt: Opt(At),
    observedAt: Opt(At),
    session: Opt(Session),
    agentVersion: Opt(Type.String()),
    protocol: Opt(Type.Integer()),
    address: Opt(Type.String()),
    engine: Opt(
      Obj({
        type: Type.String(),
        libvirtVersion: Type.String(),
        emulatorVersion: Type.String(),
        arch: Type.String(),
        kvm: Type.Boolean(),
        machines: Type.Array(Type.String()),
        cpuModels: Type.Array(Type.String()),
        firmwares: Type.Array(Enum(['bios', 'uefi'])),
      }),
    ),
    network: Opt(Obj({ bridges: Type.Array(Type.String()) })),
    measured: Opt(Resources),
    used: Opt(Obj({ cpuPercent: Type.Number(), memoryMiB: Type.Number(), diskMiB: Type.Number() })),
    foreign: Type.Array(
      Obj({
        uuid: Id,
        name: Type.String(),
        running: Type.Boolean(),
        cpus: Type.Integer(),
        memoryMiB: Type.Integer(),
        persistent: Type.Boolean(),
        autostart: Type.Boolean(),
      }),
    ),
    strays: Type.Array(
      Obj({
        id: Id,
        name: Type.String(),
        running: Type.Boolean(),
        generation: Type.Integer(),
        cpus: Type.Integer(),
        memoryMiB: Type.Integer(),
        orderLater: Opt(Type.Boolean()),
      }),
    ),
    images: Type.Array(Type.String()),
    certificate: Opt(Obj({ serial: Type.String(), expiresAt: At })),
    assignmentGeneration: Opt(Type.Integer()),
    leaving: Opt(
      Type.Array(Obj({ id: Id, name: Type.String(), generation: Type.Integer(), over: Opt(Type.Literal(true)) })),
    ),
    problems: Type.Array(Type.String()),
  }),
});
const Amount = Type.Integer({ minimum: 0, maximum: limits.diskMiB });
const OrNull = Type.Union([Amount, Type.Null()]);
const [least, most] = limits.overcommit;
const Overcommit = Type.Number({ minimum: least, maximum: most });
export const HostChange = Obj({
  fence: Opt(
    Type.Array(FenceDevice, { maxItems: 8, description: 'In the order in which they are tried; all that there are' }),
  ),
  cordoned: Opt(Type.Boolean()),
  cordonReason: Opt(Type.String({ maxLength: limits.reason })),
  reserved: Opt(Obj({ cpus: Opt(Amount), memoryMiB: Opt(Amount), diskMiB: Opt(Amount) })),
  overcommit: Opt(Obj({ cpu: Opt(Overcommit), memory: Opt(Overcommit) })),
  capacity: Opt(Obj({ cpus: Opt(OrNull), memoryMiB: Opt(OrNull), diskMiB: Opt(OrNull) })),
  labels: Opt(LabelChange),
});
