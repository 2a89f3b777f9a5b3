/** Shapes of the messages on the wire, checked on receipt. Unknown fields are ignored: a side one version newer may add some. */
import { longestMs } from '../../core/ha/margin.ts';
import { censusPage, maxAbout, maxVotes, registerPage } from '../../core/ha/types.ts';
import type {
  Ballot,
  Bar,
  BarAnswer,
  Beat,
  BeatAnswer,
  Census,
  CensusAnswer,
  Epoch,
  HaMessage,
  HostVote,
  LeaseProfile,
  LeaseState,
  ListAnswer,
  ListVersion,
  Over,
  OverAnswer,
  Poll,
  PollAnswer,
  RegisterAnswer,
  RegisterEntry,
  RegisterQuery,
  Relay,
  Seal,
  SealAnswer,
  StoreList,
  Voter,
  VoterList,
  Withdraw,
  WithdrawAnswer,
  Word,
} from '../../core/ha/types.ts';
import type { HostSession } from '../../core/model/host.ts';

type Check = (value: unknown) => boolean;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const isText =
  (longest: number): Check =>
  (value) =>
    typeof value === 'string' && value.length <= longest;
const isId: Check = (value) => typeof value === 'string' && uuid.test(value);
/** The id of "no epoch", or of a page's begin, is empty. */
const isIdOrNone: Check = (value) => value === '' || isId(value);
const isBoolean: Check = (value) => typeof value === 'boolean';
const isCount: Check = (value) => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const isMs =
  (most: number): Check =>
  (value) =>
    typeof value === 'number' && value >= 0 && value <= most;
const isTime = isMs(Number.MAX_SAFE_INTEGER);
const isOneOf = (...words: readonly string[]): Check => {
  const known = new Set<unknown>(words);
  return (value) => known.has(value);
};
const maybe =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const list =
  (check: Check, most: number): Check =>
  (value) =>
    Array.isArray(value) && value.length <= most && value.every(check);

/** Names a check for every field of the type: one that is added later is not forgotten here. */
function shape<T extends object>(fields: { readonly [K in keyof Required<Omit<T, 'type'>>]: Check }): Check {
  const entries = Object.entries<Check>(fields);
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    const record = value as Readonly<Record<string, unknown>>;
    for (const [key, check] of entries) if (!check(record[key])) return false;
    return true;
  };
}

const session = shape<HostSession>({ number: isCount, id: isId });
const epoch = shape<Epoch>({ number: isCount, id: isIdOrNone });
const ballot = shape<Ballot>({ epoch, attempt: isCount });
const version = shape<ListVersion>({ forced: isCount, epoch, number: isCount });
const profile = shape<LeaseProfile>({ lengthMs: isMs(longestMs), boundMs: isMs(60_000), drift: isMs(1) });
/** Seven, one more while the list changes, and one to spare. */
const maxVoters = 9;
const voter = shape<Voter>({
  keeperId: isId,
  diskId: isId,
  name: isText(63),
  votes: isCount,
  addresses: list(isText(64), 2),
});
const voterList = shape<VoterList>({ siteId: isId, version, profile, voters: list(voter, maxVoters) });
const word = shape<Word>({ kind: isOneOf('person', 'fence'), who: isText(256), reason: isText(2000), saidAt: isTime });
const hostVote = shape<HostVote>({
  hostId: isId,
  session,
  leftMs: isTime,
  silentMs: maybe(isTime),
  lapsed: isBoolean,
  ended: isBoolean,
  seal: maybe(shape<NonNullable<HostVote['seal']>>({ session, ballot, first: ballot })),
  overThrough: isCount,
  confirmed: maybe(version),
});
const lease = shape<LeaseState>({
  state: isOneOf('held', 'lapsed', 'none', 'killing'),
  leftMs: isTime,
  votes: isCount,
  of: isCount,
  guardLagMs: maybe(isTime),
});

const shapes: Readonly<Record<(HaMessage | Relay)['type'], Check>> = {
  beat: shape<Beat>({
    hostId: isId,
    session,
    sentAt: isTime,
    askMs: isMs(longestMs),
    boundMs: isMs(60_000),
    lapsed: isBoolean,
    ended: isBoolean,
    reset: isBoolean,
    confirmed: version,
    list: version,
  }),
  'beat-answer': shape<BeatAnswer>({
    session,
    sentAt: isTime,
    askMs: isMs(longestMs),
    yes: isBoolean,
    refused: maybe(isOneOf('sealed', 'low')),
    floor: maybe(isCount),
    epoch,
    diskId: isId,
    version,
    list: maybe(voterList),
  }),
  poll: shape<Poll>({
    epoch,
    purpose: isOneOf('ask', 'accept', 'lead'),
    committing: isBoolean,
    version,
    seq: isCount,
    about: list(isId, maxAbout),
  }),
  'poll-answer': shape<PollAnswer>({
    seq: isCount,
    asked: epoch,
    ok: isBoolean,
    why: maybe(isOneOf('epoch', 'busy')),
    epoch,
    diskId: isId,
    version,
    list: maybe(voterList),
    hosts: list(hostVote, maxVotes),
    well: isCount,
    contactMs: isTime,
  }),
  census: shape<Census>({ epoch, after: isIdOrNone, seq: isCount }),
  'census-answer': shape<CensusAnswer>({
    seq: isCount,
    epoch,
    diskId: isId,
    hosts: list(hostVote, censusPage),
    more: isBoolean,
  }),
  seal: shape<Seal>({ hostId: isId, session, ballot, version, word: maybe(word) }),
  'seal-answer': shape<SealAnswer>({
    hostId: isId,
    session,
    ballot,
    version,
    diskId: isId,
    sealed: isBoolean,
    ranOut: isBoolean,
    first: maybe(ballot),
    why: maybe(isOneOf('epoch', 'list', 'granted', 'contact', 'higher', 'ballot')),
    epoch,
    higher: maybe(session),
  }),
  withdraw: shape<Withdraw>({ hostId: isId, session, ballot, version }),
  'withdraw-answer': shape<WithdrawAnswer>({ hostId: isId, session, ballot, diskId: isId, ok: isBoolean }),
  over: shape<Over>({
    epoch,
    hosts: list(shape<Over['hosts'][number]>({ hostId: isId, through: isCount }), 1000),
    seq: isCount,
  }),
  'over-answer': shape<OverAnswer>({ seq: isCount, diskId: isId, ok: isBoolean }),
  list: shape<StoreList>({ epoch, list: voterList, word: maybe(word) }),
  'list-answer': shape<ListAnswer>({ asked: version, version, diskId: isId, stored: isBoolean, epoch }),
  register: shape<RegisterQuery>({ epoch, version, seq: isCount, after: isIdOrNone }),
  'register-answer': shape<RegisterAnswer>({
    seq: isCount,
    hostId: isId,
    diskId: isId,
    ok: isBoolean,
    epoch,
    session,
    version,
    confirmed: version,
    entries: list(shape<RegisterEntry>({ guestId: isId, generation: isCount, epoch: isCount }), registerPage),
    more: isBoolean,
    state: lease,
  }),
  bar: shape<Bar>({ epoch, session, guestId: isId, generation: isCount }),
  'bar-answer': shape<BarAnswer>({
    hostId: isId,
    guestId: isId,
    generation: isCount,
    gone: isBoolean,
    why: maybe(isOneOf('epoch', 'session', 'killing')),
    epoch,
  }),
  relay: shape<Relay>({ to: isId, datagram: isText(80_000) }),
};

const fromControllers: ReadonlySet<string> = new Set<(HaMessage | Relay)['type']>([
  'poll',
  'census',
  'seal',
  'withdraw',
  'over',
  'list',
  'register',
  'bar',
  'relay',
]);

/** What came, when it is whole and its sender's role may say it; else what is wrong with it. */
export function readMessage(
  text: string,
  from: { readonly id: string; readonly role: 'keeper' | 'controller' },
): HaMessage | Relay | 'malformed' | 'forbidden' {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return 'malformed';
  }
  const message = value as HaMessage | Relay;
  const type: unknown = typeof value === 'object' && value !== null ? message.type : undefined;
  if (typeof type !== 'string' || !Object.hasOwn(shapes, type) || !shapes[message.type](value)) return 'malformed';
  if (fromControllers.has(type) !== (from.role === 'controller')) return 'forbidden';
  const speaksFor =
    message.type === 'beat' || message.type === 'register-answer' || message.type === 'bar-answer'
      ? message.hostId
      : from.id;
  return speaksFor === from.id ? message : 'forbidden';
}
