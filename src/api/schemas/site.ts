import Type from 'typebox';
import { Obj, Enum, Opt, Name, At, Id, Resources } from './common.ts';

export const SiteEvent = Obj({
  seq: Type.Integer(),
  eventAt: At,
  type: Type.String(),
  severity: Enum(['info', 'warning', 'error']),
  subject: Obj({ kind: Type.String(), id: Type.String(), name: Type.String() }),
  message: Type.String(),
  who: Type.String(),
  reason: Opt(Type.String()),
  cause: Opt(Type.String()),
  evidence: Opt(Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()]))),
});
export const SiteStatus = Obj({
  id: Id,
  name: Type.String(),
  version: Type.String(),
  epoch: Type.Integer(),
  revision: Type.Integer(),
  leading: Type.Boolean(),
  startedAt: At,
  review: Opt(Obj({ restoredAt: At, backupAt: At })),
  hosts: Type.Record(Type.String(), Type.Integer(), { description: 'Count by state' }),
  guests: Type.Record(Type.String(), Type.Integer(), { description: 'Count by state' }),
  images: Type.Record(Type.String(), Type.Integer()),
  networks: Type.Integer(),
  capacity: Obj({ total: Resources, promised: Resources }),
  problems: Type.Array(Obj({ subject: Type.String(), message: Type.String() })),
});
export const Review = Obj({
  pending: Type.Boolean(),
  restoredAt: Opt(At),
  backupAt: Opt(At),
  items: Type.Array(
    Obj({
      host: Name,
      guestId: Id,
      name: Type.String(),
      what: Enum(
        ['stray', 'deleting', 'newer'],
        'stray: runs, but this state does not know it; deleting: would be destroyed; newer: the host executed a later order than this state knows',
      ),
      running: Type.Boolean(),
      detail: Type.String(),
    }),
  ),
});
export const ReviewDecision = Obj({
  guestId: Id,
  decision: Enum(
    ['adopt', 'destroy', 'keep'],
    'adopt: take it into the state as it is; destroy: end it and its disks; keep: leave it alone, undecided',
  ),
});
export const BackupRequest = Obj({
  recipients: Opt(Type.Array(Type.String({ maxLength: 200 }), { maxItems: 16, description: 'age recipients' })),
  passphrase: Opt(Type.String({ minLength: 8, maxLength: 1024 })),
});
