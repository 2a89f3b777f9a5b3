/**
 * The words of the host lease: who votes, what is sent, what is kept. The rules themselves are in the neighbouring files
 * and in `docs/host-lease.md`; rule numbers in comments are those of that page.
 *
 * Times are milliseconds of the boot-time clock of whoever holds them (CLOCK_BOOTTIME): they are never compared across
 * machines, and no wall clock is used (rule 13).
 */
import type { HostSession } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';

/** Leadership: compared as a pair. The id is random for each candidacy, so two candidates never share one (rule 8). */
export interface Epoch {
  readonly number: number;
  readonly id: Uuid;
}
export const noEpoch: Epoch = { number: 0, id: '' };

/** One attempt of one leader to seal one session (rule 5). */
export interface Ballot {
  readonly epoch: Epoch;
  readonly attempt: number;
}

/** One voter. `keeperId` is the host's id (a witness is a host that carries no guests). */
export interface Voter {
  readonly keeperId: Uuid;
  /** Random, made when the keeper's disk was first written: a wiped keeper is another voter (rule 12). */
  readonly diskId: Uuid;
  readonly name: string;
  /** 1, or 2 for one step of a change (rule 12). */
  readonly votes: number;
  /** `ADDRESS:PORT`, one per network for beats, at most two. */
  readonly addresses: readonly string[];
}

/** Compared in this order. `forced` counts the lists that were made by hand from survivors (rule 15). */
export interface ListVersion {
  readonly forced: number;
  readonly epoch: Epoch;
  readonly number: number;
}

export interface LeaseProfile {
  /** L: what a host asks for, milliseconds. */
  readonly lengthMs: number;
  /** k: from the deadline to frozen guests, milliseconds. */
  readonly boundMs: number;
  /** ρ: most that two clocks drift apart, relative. */
  readonly drift: number;
}

export interface VoterList {
  readonly siteId: Uuid;
  readonly version: ListVersion;
  readonly profile: LeaseProfile;
  readonly voters: readonly Voter[];
}

// ---------------------------------------------------------------- host → voter → host

/** Sent by every keeper to every voter every L/8 (rule 2). */
export interface Beat {
  readonly type: 'beat';
  readonly hostId: Uuid;
  readonly session: HostSession;
  /** Sender's clock; also the number of the beat. */
  readonly sentAt: number;
  /** ℓ: how long a grant is asked for; 0: contact only. */
  readonly askMs: number;
  /** k */
  readonly boundMs: number;
  /** The host's lease has run out and its guests are frozen: it may be sealed although it is heard (one-way cut). */
  readonly lapsed: boolean;
  /** Everything of this session has ended for ever: it may be sealed at once (planned power-off). */
  readonly ended: boolean;
  /** Nothing before this beat counts: longer grants may be dropped (rule 14). */
  readonly reset: boolean;
  /** The version that the host's lease rests on. */
  readonly confirmed: ListVersion;
  /** Highest list that the host has. */
  readonly list: ListVersion;
}

export interface BeatAnswer {
  readonly type: 'beat-answer';
  /** Of the beat that is answered. */
  readonly session: HostSession;
  readonly sentAt: number;
  readonly askMs: number;
  readonly yes: boolean;
  /** Only these two refuse (rule 6); a `no` without a reason is mere contact. */
  readonly refused?: 'sealed' | 'low';
  /** Where refused: the host's next session must be above this number. */
  readonly floor?: number;
  /** Highest epoch that the voter accepted. */
  readonly epoch: Epoch;
  readonly diskId: Uuid;
  readonly version: ListVersion;
  /** The voter's list, when it is higher than the host's. */
  readonly list?: VoterList;
}

// ---------------------------------------------------------------- controller → keeper → controller

/** Also the leader's sign of life (rule 8). */
export interface Poll {
  readonly type: 'poll';
  readonly epoch: Epoch;
  /** `ask`: would you? writes nothing · `accept`: do · `lead`: it leads already. */
  readonly purpose: 'ask' | 'accept' | 'lead';
  /** It committed to the database in the last second. */
  readonly committing: boolean;
  /** Highest list that it knows; a higher one comes back. */
  readonly version: ListVersion;
  /** Number of the question; the answer repeats it. */
  readonly seq: number;
  /** Hosts to be told of in any case, at most `maxAbout`. */
  readonly about: readonly Uuid[];
}
export const maxAbout = 50;

/** What a voter knows of one host that is not simply well. */
export interface HostVote {
  readonly hostId: Uuid;
  /** Highest session granted. */
  readonly session: HostSession;
  /** Milliseconds that its own grant still lasts; 0: it has run out. */
  readonly leftMs: number;
  /** Milliseconds since its last beat; absent: none since the voter started. */
  readonly silentMs?: number;
  readonly lapsed: boolean;
  readonly ended: boolean;
  readonly seal?: { readonly session: HostSession; readonly ballot: Ballot; readonly first: Ballot };
  /** Sessions up to this number are over (rule 5). */
  readonly overThrough: number;
  /** Version of the list that the host confirmed in its last beat. */
  readonly confirmed?: ListVersion;
}

export interface PollAnswer {
  readonly type: 'poll-answer';
  readonly seq: number;
  /** The epoch that was polled for. */
  readonly asked: Epoch;
  /** The voter would accept, accepted, or has accepted it. */
  readonly ok: boolean;
  /** Why not: `epoch` it accepted a higher one · `busy` another leader is well. */
  readonly why?: 'epoch' | 'busy';
  /** Highest accepted. */
  readonly epoch: Epoch;
  readonly diskId: Uuid;
  readonly version: ListVersion;
  readonly list?: VoterList;
  /** Hosts that are not well: grant run out, lapsed, ended or sealed; at most `maxVotes`, worst first. */
  readonly hosts: readonly HostVote[];
  /** Hosts that it holds a running grant for. */
  readonly well: number;
  /** Milliseconds for which the voter itself has had answers of a majority. */
  readonly contactMs: number;
}
export const maxVotes = 150;

/** Everything that a voter ever granted, page by page (rule 9: every host). */
export interface Census {
  readonly type: 'census';
  readonly epoch: Epoch;
  /** Only hosts with an id above. */
  readonly after: string;
  readonly seq: number;
}
export interface CensusAnswer {
  readonly type: 'census-answer';
  readonly seq: number;
  readonly epoch: Epoch;
  readonly diskId: Uuid;
  readonly hosts: readonly HostVote[];
  readonly more: boolean;
}
export const censusPage = 100;

/** A person's word, or a fence agent's, that nothing of a session runs any more (rule 15). */
export interface Word {
  readonly kind: 'person' | 'fence';
  readonly who: string;
  readonly reason: string;
  readonly saidAt: Instant;
}

export interface Seal {
  readonly type: 'seal';
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly ballot: Ballot;
  readonly version: ListVersion;
  readonly word?: Word;
}
export interface SealAnswer {
  readonly type: 'seal-answer';
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly ballot: Ballot;
  readonly version: ListVersion;
  readonly diskId: Uuid;
  readonly sealed: boolean;
  /** Every grant of that session is older than its own ℓ + m(ℓ, k) on the voter's clock. */
  readonly ranOut: boolean;
  /** Ballot that first set the seal. */
  readonly first?: Ballot;
  readonly why?: 'epoch' | 'list' | 'granted' | 'contact' | 'higher' | 'ballot';
  readonly epoch: Epoch;
  /** A higher session that the voter knows of. */
  readonly higher?: HostSession;
}

export interface Withdraw {
  readonly type: 'withdraw';
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly ballot: Ballot;
  readonly version: ListVersion;
}
export interface WithdrawAnswer {
  readonly type: 'withdraw-answer';
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly ballot: Ballot;
  readonly diskId: Uuid;
  readonly ok: boolean;
}

/** Tells that sessions of hosts are over (rule 12: a majority knows every one, and a new voter learns them first). */
export interface Over {
  readonly type: 'over';
  readonly epoch: Epoch;
  readonly hosts: readonly { readonly hostId: Uuid; readonly through: number }[];
  readonly seq: number;
}
export interface OverAnswer {
  readonly type: 'over-answer';
  readonly seq: number;
  readonly diskId: Uuid;
  readonly ok: boolean;
}

export interface StoreList {
  readonly type: 'list';
  readonly epoch: Epoch;
  readonly list: VoterList;
  /** Made by hand from survivors, with name and reason (rule 15). */
  readonly word?: Word;
}
export interface ListAnswer {
  readonly type: 'list-answer';
  readonly asked: ListVersion;
  readonly version: ListVersion;
  readonly diskId: Uuid;
  readonly stored: boolean;
  readonly epoch: Epoch;
}

/** What one host's keeper holds: asked of every host, not only of voters (rule 9). */
export interface RegisterQuery {
  readonly type: 'register';
  readonly epoch: Epoch;
  readonly version: ListVersion;
  readonly seq: number;
  /** Only guests with an id above. */
  readonly after: string;
}
export interface RegisterEntry {
  readonly guestId: Uuid;
  readonly generation: number;
  readonly epoch: number;
}
export interface RegisterAnswer {
  readonly type: 'register-answer';
  readonly seq: number;
  readonly hostId: Uuid;
  readonly diskId: Uuid;
  /** False: the keeper knows a higher epoch, which is `epoch`. */
  readonly ok: boolean;
  readonly epoch: Epoch;
  readonly session: HostSession;
  readonly version: ListVersion;
  readonly confirmed: ListVersion;
  readonly entries: readonly RegisterEntry[];
  readonly more: boolean;
  readonly state: LeaseState;
}
export const registerPage = 200;

export interface Bar {
  readonly type: 'bar';
  readonly epoch: Epoch;
  readonly session: HostSession;
  readonly guestId: Uuid;
  readonly generation: number;
}
export interface BarAnswer {
  readonly type: 'bar-answer';
  readonly hostId: Uuid;
  readonly guestId: Uuid;
  readonly generation: number;
  /** Gone: its sub-group is removed and nothing up to that generation is registered any more. */
  readonly gone: boolean;
  readonly why?: 'epoch' | 'session' | 'killing';
  readonly epoch: Epoch;
}

/** Passes a whole sealed datagram on, for hosts that the controller does not reach but a voter does. */
export interface Relay {
  readonly type: 'relay';
  readonly to: Uuid;
  /** base64 */
  readonly datagram: string;
}

export type KeeperQuestion = Beat | Poll | Census | Seal | Withdraw | Over | StoreList | RegisterQuery | Bar;
export type KeeperAnswer =
  | BeatAnswer
  | PollAnswer
  | CensusAnswer
  | SealAnswer
  | WithdrawAnswer
  | OverAnswer
  | ListAnswer
  | RegisterAnswer
  | BarAnswer;
export type HaMessage = KeeperQuestion | KeeperAnswer;

/** `held`: a majority grants · `lapsed`: it does not, guests are frozen · `none`: it asks for none · `killing`: the session is over. */
export interface LeaseState {
  readonly state: 'held' | 'lapsed' | 'none' | 'killing';
  /** Milliseconds left. */
  readonly leftMs: number;
  /** Voters whose grant runs, of how many votes. */
  readonly votes: number;
  readonly of: number;
  /** The guard's worst lag lately, milliseconds; absent: it does not answer. */
  readonly guardLagMs?: number;
}
