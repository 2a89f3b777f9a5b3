import Type from 'typebox';
import { Obj, Enum, Opt, At, Id, LabelChange, meta, Resources, Session } from './common.ts';
import { limits } from '../../core/requests/check.ts';

export const Host = Obj({
  kind: Type.Literal('host'),
  ...meta,
  spec: Obj({
    cordoned: Type.Boolean(),
    cordonReason: Opt(Type.String()),
    reserved: Resources,
    overcommit: Obj({ cpu: Type.Number(), memory: Type.Number() }),
    capacity: Opt(Obj({ cpus: Opt(Type.Number()), memoryMiB: Opt(Type.Number()), diskMiB: Opt(Type.Number()) })),
  }),
  status: Obj({
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
    leaving: Opt(Type.Array(Obj({ id: Id, name: Type.String(), generation: Type.Integer() }))),
    problems: Type.Array(Type.String()),
  }),
});
const Amount = Type.Integer({ minimum: 0, maximum: limits.diskMiB });
const OrNull = Type.Union([Amount, Type.Null()]);
const [least, most] = limits.overcommit;
const Overcommit = Type.Number({ minimum: least, maximum: most });
export const HostChange = Obj({
  cordoned: Opt(Type.Boolean()),
  cordonReason: Opt(Type.String({ maxLength: limits.reason })),
  reserved: Opt(Obj({ cpus: Opt(Amount), memoryMiB: Opt(Amount), diskMiB: Opt(Amount) })),
  overcommit: Opt(Obj({ cpu: Opt(Overcommit), memory: Opt(Overcommit) })),
  capacity: Opt(Obj({ cpus: Opt(OrNull), memoryMiB: Opt(OrNull), diskMiB: Opt(OrNull) })),
  labels: Opt(LabelChange),
});
