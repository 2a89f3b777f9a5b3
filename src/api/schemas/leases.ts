import Type from 'typebox';
import { Obj, Enum, Opt, Name, Reference, At, Id, Session } from './common.ts';
import { limits } from '../../core/requests/check.ts';

const Ms = (description: string) => Type.Number({ minimum: 0, description: `Milliseconds: ${description}` });
const Reason = Type.String({ minLength: 1, maxLength: limits.reason });

export const Epoch = Obj({ number: Type.Integer(), id: Type.String() });
export const ListVersion = Obj(
  { forced: Type.Integer(), epoch: Epoch, number: Type.Integer() },
  { description: 'Compared in this order; forced counts the lists that were made by hand from survivors' },
);
export const LeaseProfile = Obj({
  lengthMs: Ms('how long a grant is asked for'),
  boundMs: Ms('from the deadline to frozen guests'),
  drift: Type.Number({ description: 'Most that two clocks drift apart, relative' }),
});

const Path = Obj({ address: Type.String(), answers: Type.Boolean(), roundTripMs: Opt(Type.Number()) });
export const Voter = Obj({
  keeperId: Id,
  name: Type.String(),
  role: Enum(['host', 'witness']),
  votes: Type.Integer({ description: '1, or 2 for one step of a change' }),
  answers: Type.Boolean({ description: 'It answered within the last second' }),
  answeredAt: Opt(At),
  roundTripMs: Opt(Type.Number()),
  accepted: Type.Boolean({ description: 'It accepted the epoch of this controller' }),
  epoch: Opt(Epoch),
  version: Opt(ListVersion),
  addresses: Type.Array(Path, { description: 'One per network for beats' }),
});
export const leaseStates = ['held', 'lapsed', 'sealing', 'lost', 'none', 'unknown'] as const;
export const HostLease = Obj({
  hostId: Id,
  host: Type.String(),
  role: Enum(['host', 'witness']),
  state: Enum(
    leaseStates,
    'held: a majority of voters grants it; lapsed: its guests are frozen, it is heard; sealing: it is being sealed; lost: its session is over; none: it asks for no lease; unknown: no majority says anything of it',
  ),
  session: Opt(Session),
  leftMs: Opt(Ms('that the lease still lasts, at least')),
  silentSinceAt: Opt(At),
  sealedVotes: Opt(Type.Integer()),
  votes: Opt(Type.Integer()),
  voter: Type.Boolean(),
  confirmed: Opt(ListVersion),
});
/** What was seen of leases, with the time of the sight; never stored. */
export const Leases = Obj({
  observedAt: At,
  leadership: Enum(
    ['alone', 'candidate', 'leading'],
    'alone: there is no voter list yet, the database alone says who leads; candidate: asks for the voters’ majority',
  ),
  leader: Opt(Type.String({ description: 'Who leads, where another one does and it is known' })),
  epoch: Epoch,
  committing: Type.Boolean({ description: 'It can commit to the database' }),
  version: Opt(ListVersion),
  profile: LeaseProfile,
  marginMs: Ms('after a grant ran out, until its guests are frozen for certain'),
  voters: Type.Array(Voter),
  answeringVotes: Type.Integer(),
  votes: Type.Integer(),
  hosts: Type.Array(HostLease),
  barrier: Type.Array(Type.String(), {
    description:
      'Hosts whose register was not seen yet: guests that earlier leaders placed are not started anew before',
  }),
  change: Opt(Obj({ what: Type.String(), waitsFor: Type.Array(Type.String()) })),
  advice: Type.Array(Type.String(), { description: 'What a person should do, most urgent first' }),
  proposal: Opt(
    Obj(
      { voters: Type.Array(Type.String()), sentences: Type.Array(Type.String()) },
      { description: 'The voters that the site proposes by itself, and what it lacks' },
    ),
  ),
});
export const AddVoter = Obj({ host: Reference });
export const ForceVoters = Obj({
  hosts: Type.Array(Reference, { minItems: 1, maxItems: 7, description: 'The survivors' }),
  confirm: Type.String({ maxLength: 512, description: 'The same names once more, with spaces between' }),
  reason: Reason,
});
export const DeclareDead = Obj({
  confirm: Type.String({ maxLength: 63, description: 'The name of the host, once more' }),
  reason: Reason,
});
export const Fence = Obj({
  test: Opt(Type.Boolean({ description: 'Only asks each device for the state of the power' })),
  confirm: Opt(Type.String({ maxLength: 63, description: 'The name of the host, once more; not with test' })),
});
export const FenceAttempt = Obj({
  attemptAt: At,
  what: Enum(['off', 'test']),
  level: Type.Integer({ description: 'From 1, in the order in which they are tried' }),
  agent: Type.String(),
  outcome: Enum(
    ['off', 'on', 'failed', 'timeout', 'refused', 'disbelieved'],
    'off: the power is off for certain; failed: it could not, or said nothing clear; timeout: it hung; refused: its settings are not taken; disbelieved: it says off, but voters hear the host, or nobody could contradict it',
  ),
  detail: Type.String(),
  ms: Ms('that it took'),
  who: Type.String(),
  reason: Type.String(),
});
export const Fencing = Obj({
  host: Name,
  test: Type.Boolean(),
  ok: Type.Boolean({
    description: 'The power is off for certain and the host is declared over; with test: every device answered',
  }),
  attempts: Type.Array(FenceAttempt),
});
export const FenceHistory = Obj({
  host: Name,
  attempts: Type.Array(FenceAttempt, { description: 'The last ones, oldest first' }),
  waits: Opt(Type.String({ description: 'Why it is not fenced now, although it is silent' })),
});
export const LossPlan = Obj({
  host: Name,
  detectMs: Ms('from the power cut until it is declared lost, in the usual case'),
  blockers: Type.Array(Type.String(), { description: 'Why it could not be declared lost now' }),
  guests: Type.Array(
    Obj({
      guest: Name,
      what: Enum(
        ['moves', 'waits', 'stays', 'ends'],
        'moves: started on another host; waits: it should, but cannot now; stays: bound to its host; ends: it was to be off or gone',
      ),
      host: Opt(Name),
      why: Type.String(),
    }),
  ),
});
