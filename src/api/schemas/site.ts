import Type from 'typebox';
import { Obj, Enum, Opt, Name, At, Id, Resources } from './common.ts';
import { LeaseProfile } from './leases.ts';
import { limits } from '../../core/requests/check.ts';

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
export const Hold = Obj({ reason: Type.String(), who: Type.String(), heldAt: At });
const OnHostLeave = Enum(
  ['stop', 'migrate', 'wait'],
  'Highly available guests of a host that is powered off or rebooted in order: stop and start elsewhere at once; migrate: move; wait for it to come back',
);
export const SiteSettings = Obj({
  id: Id,
  name: Type.String(),
  lease: LeaseProfile,
  leaseProfile: Enum(['default', 'fast', 'own']),
  marginMs: Type.Number({ description: 'Milliseconds after a grant ran out, until its guests are frozen for certain' }),
  onHostLeave: OnHostLeave,
  lapseGraceSeconds: Type.Integer({
    description: 'Guests with locks on shared storage are killed so long after the lease lapsed; 0: at once',
  }),
  hold: Opt(Hold),
  votersBegunAt: Opt(At),
});
export const LeaseChange = Type.Union([
  Type.Literal('default'),
  Type.Literal('fast'),
  Obj({
    lengthMs: Opt(Type.Number({ description: 'Milliseconds that a grant is asked for' })),
    boundMs: Opt(Type.Number({ description: 'Milliseconds from the deadline to frozen guests' })),
    drift: Opt(Type.Number({ description: 'Most that two clocks drift apart, relative: 0.01' })),
  }),
]);
export const SiteChange = Obj({
  lease: Opt(LeaseChange),
  onHostLeave: Opt(OnHostLeave),
  lapseGraceSeconds: Opt(Type.Integer({ minimum: 0, maximum: limits.graceSeconds })),
});
export const SiteHold = Obj({ reason: Type.String({ minLength: 1, maxLength: limits.reason }) });
export const SiteStatus = Obj({
  id: Id,
  name: Type.String(),
  version: Type.String(),
  epoch: Type.Integer(),
  revision: Type.Integer(),
  leading: Type.Boolean(),
  startedAt: At,
  leader: Opt(Type.String({ description: 'Who leads, where another controller does and it is known' })),
  review: Opt(Obj({ restoredAt: At, backupAt: At })),
  hold: Opt(Hold),
  leases: Opt(
    Obj(
      {
        leadership: Enum(['alone', 'candidate', 'leading']),
        states: Type.Record(Type.String(), Type.Integer(), { description: 'Count by state of the lease' }),
        votes: Type.Integer(),
        answeringVotes: Type.Integer(),
        silentVoters: Type.Array(Type.String()),
        advice: Type.Array(Type.String()),
      },
      { description: 'Absent: no host has a lease yet' },
    ),
  ),
  waiting: Opt(
    Type.Array(Obj({ what: Type.String(), waitsFor: Type.Array(Type.String()) }), {
      description: 'What waits, and for what: after a cold start, in a change of the voters, guests without a place',
    }),
  ),
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
