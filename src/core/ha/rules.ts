/**
 * The rules of the host lease as flags. They are all on, always; only the simulator runs the loops with one rule left out,
 * to show that its scenario notices (`test/scenarios`), and the directed histories of `test/unit/core/lease-rules`. Each line
 * says what happens without the rule.
 */
export interface Rules {
  /** Rule 2: a voter that started t ago assumes that it granted each host then. Without: it forgets grants, double run. */
  readonly assumeGrants: boolean;
  /** Rule 4: seals are on disk before they are answered. Without: a restarted voter grants a sealed session, double run. */
  readonly durableSeals: boolean;
  /** Rule 2: the highest session granted is on disk. Without: who stays dead after a power cut of the site is never lost. */
  readonly durableSessions: boolean;
  /** Rule 2: a grant counts from the sending of its question. Without (from the receipt of the answer): double run. */
  readonly sendingTime: boolean;
  /** Rule 13: a voter waits ℓ + m before it says "ran out". Without the m: double run when clocks drift or the guard is late. */
  readonly margin: boolean;
  /** Rule 2: the longest ℓ and the largest k that were granted decide the margin. Without: frozen after it was declared. */
  readonly marginOfGrant: boolean;
  /** Rule 2: an answer counts only for the beat of this life of the keeper. Without: an old yes counts from a new sending. */
  readonly beatNumbers: boolean;
  /** Rule 1: each session has its own cgroup, removed at its end. Without: a stalled start goes on in the next session. */
  readonly sessionGroups: boolean;
  /** Rule 1: a deadline belongs to one session. Without: the deadline of the old one still counts in the new one. */
  readonly sessionDeadline: boolean;
  /** Rule 1: what a beat says belongs to its session. Without: a late answer to the old one prolongs the new one, double run. */
  readonly sessionStatus: boolean;
  /** Rule 1: sessions have a random id beside the number. Without: a host restored from an old disk is never lost. */
  readonly sessionIds: boolean;
  /** Rule 3: the guard looks at the clock again after a thaw. Without: it looks, stalls, thaws: double run. */
  readonly guardThaws: boolean;
  /** Rule 3: the keeper asks for grants only while the guard answers. Without: nobody freezes at the deadline, double run. */
  readonly guardAnswers: boolean;
  /** Rule 4: a voter seals only after answers of a majority for L. Without: a dead switch that comes back loses every host. */
  readonly contact: boolean;
  /** Rule 4: contact counts every answer. Without (yeses only): two of four hosts stay frozen for ever. */
  readonly contactAnyAnswer: boolean;
  /** Rule 4: a voter seals only when its own grant ran out. Without: the word of a fence device that lies is taken, double run. */
  readonly sealAfterGrant: boolean;
  /** Rule 4: a host that lapsed says so, and may be sealed although it is heard. Without: a one-way cut is never declared. */
  readonly lapsedSaid: boolean;
  /** Rule 5: votes count under one ballot only. Without: attempt 1 arrives after attempt 2 and both are counted. */
  readonly oneBallot: boolean;
  /** Rule 6: only a sealed or low session is refused. Without (any no refuses): every leader change kills the site. */
  readonly onlyTwoRefuse: boolean;
  /** Rule 7: only who first set a seal withdraws it. Without: the earlier leader had counted it, double run. */
  readonly firstWithdraws: boolean;
  /** Rule 7: a voter ignores late withdrawals. Without: one arrives after the next leader counted that seal, double run. */
  readonly lateWithdrawals: boolean;
  /** Rule 8: a leader without a majority for 1 s stops. Without: cut off, it keeps one voter waiting, no leader for ever. */
  readonly leaderStops: boolean;
  /** Rule 8: candidates ask first, writing nothing. Without: a loser's epoch is accepted somewhere, elections without end. */
  readonly askFirst: boolean;
  /** Rule 8: a candidate that can commit beats a leader that cannot. Without: no orders for ever. */
  readonly committingWins: boolean;
  /** Rule 8: voters refuse what comes under a lower epoch. Without: an old leader seals and withdraws, double run. */
  readonly votersRefuseLow: boolean;
  /** Rule 9: a new leader starts guests only after it saw every register. Without: double run. */
  readonly barrier: boolean;
  /** Rule 9: each yes carries the voter's epoch, and the keeper refuses lower orders. Without: a rebooted host obeys the old leader. */
  readonly epochWithYes: boolean;
  /** Rule 9: the epoch a keeper has seen is on disk before it reports under it. Without: late orders run twice. */
  readonly durableEpoch: boolean;
  /** Rule 9: "every host" counts what voters ever granted. Without: a host that the database forgot is overlooked. */
  readonly census: boolean;
  /** Rule 9: a bar names a generation and holds for all up to it. Without: a late order runs after "gone". */
  readonly barGeneration: boolean;
  /** Rule 9: a keeper removes a barred guest's group itself. Without: a dead agent blocks everybody's recovery. */
  readonly keeperBars: boolean;
  /** Rule 10: a generation runs at most once, and gone is reported. Without: a late order runs after its guest moved on. */
  readonly generationOnce: boolean;
  /** Rule 10: starts are created paused and checked again before the resume. Without: a start that outlived its agent runs. */
  readonly startPaused: boolean;
  /** Rule 12: a majority knows every session that is over before a voter leaves. Without: a lost host comes back to life. */
  readonly overTransfer: boolean;
  /** Rules 12, 15: a new voter, and each of a list made by force, assumes that it granted each host then. Without: double run. */
  readonly newVoterAssumes: boolean;
  /** Rule 12: a host confirms a list once its lease under it covers any earlier one. Without: double run. */
  readonly confirmCovers: boolean;
  /** Rule 12: no next list before every host confirmed the present one. Without: a host on an older list runs on, double run. */
  readonly confirmBeforeNext: boolean;
  /** Rule 12: versions carry their maker's epoch. Without: two leaders make two lists 2; a host on the wrong one gets no orders. */
  readonly versionEpoch: boolean;
  /** Rule 12: voters have a random id on their disk. Without: a wiped voter votes as if it remembered, double run. */
  readonly diskIds: boolean;
  /** Rule 12: settled lists are odd. Without: {A} becomes {A, B}, B dies, and A is frozen for ever. */
  readonly oddLists: boolean;
  /** Rule 12: every answer carries the list. Without: a host that hears voters but no controller never learns it. */
  readonly listWithAnswers: boolean;
  /** Rule 14: a restarted keeper lowers the guard's deadline before it says "nothing before this beat counts". */
  readonly restartLowers: boolean;
  /** Rule 15: a person's word is a seal at a majority. Without (database only): the host returns and thaws. */
  readonly wordSeals: boolean;
}

export const allRules: Rules = {
  assumeGrants: true,
  durableSeals: true,
  durableSessions: true,
  sendingTime: true,
  margin: true,
  marginOfGrant: true,
  beatNumbers: true,
  sessionGroups: true,
  sessionDeadline: true,
  sessionStatus: true,
  sessionIds: true,
  guardThaws: true,
  guardAnswers: true,
  contact: true,
  contactAnyAnswer: true,
  sealAfterGrant: true,
  lapsedSaid: true,
  oneBallot: true,
  onlyTwoRefuse: true,
  firstWithdraws: true,
  lateWithdrawals: true,
  leaderStops: true,
  askFirst: true,
  committingWins: true,
  votersRefuseLow: true,
  barrier: true,
  epochWithYes: true,
  durableEpoch: true,
  census: true,
  barGeneration: true,
  keeperBars: true,
  generationOnce: true,
  startPaused: true,
  overTransfer: true,
  newVoterAssumes: true,
  confirmCovers: true,
  confirmBeforeNext: true,
  versionEpoch: true,
  diskIds: true,
  oddLists: true,
  listWithAnswers: true,
  restartLowers: true,
  wordSeals: true,
};

/** All rules but those named. For the simulator. */
export function without(...left: readonly (keyof Rules)[]): Rules {
  return { ...allRules, ...Object.fromEntries(left.map((rule) => [rule, false])) };
}
