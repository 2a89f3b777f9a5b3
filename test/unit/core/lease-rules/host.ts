/** A host of a directed history: the real lease, register and guard, and between them what the keeper does each round. */
import { compareEpochs } from '../../../../src/core/ha/epoch.ts';
import { sessionGroup } from '../../../../src/core/ha/groups.ts';
import { Guard } from '../../../../src/core/ha/guard.ts';
import { HostLease } from '../../../../src/core/ha/lease.ts';
import { noVersion } from '../../../../src/core/ha/list.ts';
import { profiles } from '../../../../src/core/ha/margin.ts';
import { Register } from '../../../../src/core/ha/register.ts';
import { noEpoch } from '../../../../src/core/ha/types.ts';
import type { Bar, BeatAnswer, Epoch, HaMessage, RegisterQuery, VoterList } from '../../../../src/core/ha/types.ts';
import type { HostSession } from '../../../../src/core/model/host.ts';
import type { World } from './kit.ts';

const { lengthMs, boundMs } = profiles.default;

export class Host {
  readonly #world: World;
  readonly name: string;
  lease: HostLease;
  register: Register;
  /** Groups that are frozen; the session's own is made so. */
  readonly #frozen = new Set<string>();
  readonly #guard: Guard;
  epoch: Epoch = noEpoch;
  /** ℓ of the next beats. */
  askMs = lengthMs;
  /** The planned end: everything was killed, and the beats say so. */
  ended = false;
  /** After a restart the beats say "nothing before this counts", once, when a lease is held again (rule 14). */
  #reset = false;
  #beatAt = 0;

  constructor(world: World, name: string, session: HostSession, list: VoterList) {
    this.#world = world;
    this.name = name;
    this.lease = new HostLease(session, world.now, world.rules, { list, began: true });
    this.register = new Register(session, undefined, world.rules);
    this.#frozen.add(sessionGroup(session));
    this.#guard = new Guard(
      {
        now: () => world.now,
        groups: () => [sessionGroup(this.session)],
        freeze: (group) => void this.#frozen.add(group),
        thaw: (group) => void this.#frozen.delete(group),
        freezing: (group) => this.#frozen.has(group),
        frozen: (group) => this.#frozen.has(group),
        kill: () => {},
        keep: () => {},
      },
      { boundMs, graceMs: 5000 },
    );
  }

  get session(): HostSession {
    return this.lease.session;
  }

  /** Guests of the present session are neither frozen nor killed. */
  get runs(): boolean {
    return !this.ended && !this.#frozen.has(sessionGroup(this.session));
  }

  /** A new life of the keeper; guard and guests stay. */
  restart(): void {
    const { list, confirmed } = this.lease;
    const kept = { list, confirmed, began: false };
    this.lease = new HostLease(this.session, this.#world.now, this.#world.rules, kept);
    this.#reset = true;
    this.askMs = lengthMs;
  }

  step(): void {
    this.#guard.check();
    if (this.#world.now - this.#beatAt < lengthMs / 8) return;
    this.#beatAt = this.#world.now;
    this.beat();
  }

  /** To the voters, and to keepers beside them. */
  beat(beside: readonly string[] = []): void {
    const { now } = this.#world;
    this.lease.confirm();
    this.#tellGuard();
    this.#endIfRefused();
    const held = this.lease.deadline() > now;
    const reset = this.#reset && held;
    const askMs = this.ended ? 0 : this.askMs;
    for (const keeperId of [...this.lease.voters.map((each) => each.keeperId), ...beside])
      this.#world.send(this.name, keeperId, {
        type: 'beat',
        hostId: this.name,
        session: this.session,
        sentAt: now,
        askMs,
        boundMs,
        lapsed: !held && this.lease.deadline() > Number.NEGATIVE_INFINITY,
        ended: this.ended,
        reset,
        confirmed: this.lease.confirmed?.version ?? noVersion,
        list: this.lease.version,
      });
    if (reset) this.#reset = false;
  }

  answered(from: string, answer: BeatAnswer): void {
    this.lease.answer(from, answer, this.#world.now);
    this.learn(answer.epoch);
    this.#tellGuard();
    this.#endIfRefused();
  }

  learn(epoch: Epoch): void {
    if (compareEpochs(epoch, this.epoch) > 0) this.epoch = epoch;
  }

  #tellGuard(): void {
    if (!this.ended) this.#guard.order({ session: this.session, deadline: this.lease.deadline(), force: false });
  }

  #endIfRefused(): void {
    const floor = this.lease.refused();
    if (floor !== undefined) this.begin(Math.max(floor, this.session.number) + 1);
  }

  /** Everything was killed; the next session. */
  begin(number: number): void {
    const session = { number, id: `${this.#world.uuid()}-${this.name}` };
    this.register.begin(session);
    this.lease.begin(session);
    this.#frozen.add(sessionGroup(session));
    this.ended = false;
    this.askMs = lengthMs;
  }

  /** The agent registers a start, as the keeper takes it: only under a lease. */
  start(guestId: string, generation: number, epoch: number, session: HostSession = this.session): boolean {
    if (this.lease.deadline() <= this.#world.now) return false;
    return this.register.register({ guestId, generation, epoch, session }, this.epoch.number) === undefined;
  }

  tell({ epoch, seq }: RegisterQuery): HaMessage {
    const ok = compareEpochs(epoch, this.epoch) >= 0;
    this.learn(epoch);
    const leftMs = Math.max(0, this.lease.deadline() - this.#world.now);
    const had = this.lease.deadline() > Number.NEGATIVE_INFINITY;
    const state = { state: leftMs > 0 ? 'held' : had ? 'lapsed' : 'none', leftMs, votes: 0, of: 0 } as const;
    const { session, version } = this.lease;
    const { entries } = this.register;
    const confirmed = this.lease.confirmed?.version ?? noVersion;
    return {
      type: 'register-answer',
      seq,
      hostId: this.name,
      diskId: `${this.name}-disk`,
      ok,
      epoch: this.epoch,
      session,
      version,
      confirmed,
      entries,
      more: false,
      state,
    };
  }

  /** As the keeper answers it: barred, and cleared when it is there. */
  bar({ guestId, generation, epoch, session }: Bar): HaMessage {
    const answer = (gone: boolean): HaMessage => ({
      type: 'bar-answer',
      hostId: this.name,
      guestId,
      generation,
      gone,
      epoch: this.epoch,
    });
    if (compareEpochs(epoch, this.epoch) < 0) return answer(false);
    this.learn(epoch);
    const runs = this.register.bar(guestId, generation);
    if (session.id !== this.session.id) return answer(session.number < this.session.number);
    if (runs) this.register.remove(guestId);
    return answer(!this.register.has(guestId));
  }
}
