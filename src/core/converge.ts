/**
 * One decision of the controller: (state, now, who was heard, which sessions are proved over) → what to write, with
 * reasons. Pure; with nothing to do it writes nothing, and deciding again on what it decided finds nothing to do.
 */
import { inNewSession, inSession, nextOrder, placed, restated, stateEvent, unplaced, waiting } from './guest-orders.ts';
import { isHa } from './ha/eligible.ts';
import { backTo, isDown } from './ha/fail-back.ts';
import { hostNews } from './ha/host-life.ts';
import {
  byUrgency,
  exhausted,
  exhaustedWhy,
  heldBy,
  movesExhausted,
  noted,
  startCountsMs,
  staysBecause,
  takenOff,
  usualStartsAtOnce,
  waitsForHost,
} from './ha/recovery.ts';
import { Ledger } from './ledger.ts';
import type { Guest, Recovery } from './model/guest.ts';
import type { Host, HostLoss, Leaving } from './model/host.ts';
import { isGone } from './model/host.ts';
import type { Instant, Uuid } from './model/resource.ts';
import type { Change, Snapshot } from './model/snapshot.ts';
import type { Shape } from './place/fit.ts';
import { shapeOf } from './place/fit.ts';
import type { Place } from './place/placer.ts';
import { Placer } from './place/placer.ts';
import type { Expected } from './requests/result.ts';
import { count, same } from './util.ts';

export interface DecideSettings {
  /** A host that was not heard from for so long is silent. */
  readonly silentAfterMs: number;
  /** When this controller began to listen: before, nobody could have been heard. */
  readonly listeningSinceAt: Instant;
  /** Host → the session that was proved over (host-lease, rule 5). The only thing that makes a host lost. */
  readonly losses?: ReadonlyMap<Uuid, HostLoss>;
  /** True: this highly available guest may be started anew now (host-lease, rule 9). Absent: all may. */
  readonly barrier?: (guest: Guest) => boolean;
  /** When each keeper answered last; a witness has no agent that could report. */
  readonly keepersHeard?: ReadonlyMap<Uuid, Instant>;
  /** Guests of lost or rebooted hosts that one host starts at once; 6 when absent. */
  readonly startsAtOnce?: number;
}
export const defaultSettings: DecideSettings = { silentAfterMs: 10_000, listeningSinceAt: 0 };

export interface Decision {
  readonly change: Change;
  /** What was read; each must still have this revision when it is written. */
  readonly expect: readonly Expected[];
}

/** Used and expired invitations and tokens stay a while, so that their use can still be explained. */
const keepExpiredMs = { invite: 24 * 3600_000, token: 30 * 24 * 3600_000 };

const behindBarrier = 'the guests of every other host must be known first, since another controller led before';

/** `lastHeard`: when each host's last report came, kept by the caller so that an idle site writes nothing. */
export function decide(
  snapshot: Snapshot,
  now: Instant,
  lastHeard: ReadonlyMap<Uuid, Instant>,
  settings: DecideSettings = defaultSettings,
): Decision {
  const round = new Round(snapshot, now, settings);
  for (const host of snapshot.all('host')) round.host(host, lastHeard.get(host.id));
  for (const guest of snapshot.all('guest')) round.guest(guest);
  round.restart();
  round.place();
  round.failBack();
  round.cleanNetworks();
  round.cleanExpired();
  return round.finish();
}

/** A guest that waits for a place: as the state has it, and as it is by now. */
interface Waiting {
  readonly before: Guest;
  readonly guest: Guest;
}

class Round {
  readonly #snapshot: Snapshot;
  readonly #now: Instant;
  readonly #settings: DecideSettings;
  readonly #ledger: Ledger;
  /** Hosts as they are after this round. */
  readonly #hosts = new Map<Uuid, Host>();
  readonly #changedHosts = new Set<Uuid>();
  /** Guest → the host that still has its copy, whose session is not over. */
  readonly #leaving = new Map<Uuid, Host>();
  readonly #waiting: Waiting[] = [];
  /** Highly available guests whose order is of an earlier session of their host. */
  readonly #stale: Guest[] = [];
  /** Host → guests on their way there. */
  readonly #starting = new Map<Uuid, number>();
  readonly #wouldGoBack: Guest[] = [];
  /** Some guest that waits for its turn. */
  #turnless = false;
  /** Some guest is on its way back to a preferred host. */
  #goingBack = false;

  constructor(snapshot: Snapshot, now: Instant, settings: DecideSettings) {
    this.#snapshot = snapshot;
    this.#now = now;
    this.#settings = settings;
    this.#ledger = new Ledger(now);
  }

  host(host: Host, reportedAt: Instant | undefined): void {
    const { silentAfterMs, listeningSinceAt, losses, keepersHeard } = this.#settings;
    const heardAt = host.spec.role === 'witness' ? keepersHeard?.get(host.id) : reportedAt;
    const loss = losses?.get(host.id);
    const news = hostNews(host, { now: this.#now, silentAfterMs, listeningSinceAt, heardAt, loss });
    const next = news?.host ?? host;
    this.#hosts.set(host.id, next);
    for (const each of next.status.leaving ?? []) if (each.over !== true) this.#leaving.set(each.id, next);
    if (!news) return;
    this.#changedHosts.add(host.id);
    this.#ledger.event(host, news.event);
  }

  /** A guest's own part: it goes, it waits for a host, it leaves one, or its state follows what was seen. */
  guest(guest: Guest): void {
    const { placement, recovery } = guest.status;
    if (!placement) return this.#nowhere(guest);
    const host = this.#hosts.get(placement.hostId);
    if (!host) return this.#adrift(guest);
    if (isGone(host)) return this.#orphan(guest, host);
    if (host.status.state === 'online') {
      if (isHa(guest) && !inSession(guest, host)) {
        this.#stale.push(guest);
        return;
      }
      if (recovery?.why === 'fail-back' && isDown(guest) && !guest.spec.held) return this.#leave(guest, host);
      if (guest.spec.failBack === true) this.#wouldGoBack.push(guest);
    }
    this.#countStart(this.#settle(guest, waiting(guest, undefined), host), host);
  }

  /** A start that fails, or says nothing for long, holds nobody up. */
  #countStart({ status }: Guest, host: Host): void {
    const { placement, observed, state } = status;
    if (state !== 'starting' || this.#now - (placement?.placedAt ?? 0) >= startCountsMs) return;
    if (observed?.error && observed.generation >= (placement?.generation ?? 0)) return;
    this.#starting.set(host.id, (this.#starting.get(host.id) ?? 0) + 1);
  }

  #nowhere(guest: Guest): void {
    if (guest.deletionAt !== undefined || guest.spec.releasing === true) return this.#gone(guest);
    const { power, held } = guest.spec;
    const { lost, exhausted: over } = guest.status;
    if (power === 'off' || held || lost || over) {
      this.#settle(guest, guest, undefined);
      return;
    }
    const why = this.#mustWait(guest);
    if (why === undefined) this.#waiting.push({ before: guest, guest });
    else this.#tell(guest, guest, [why]);
  }

  /** Why a guest that is nowhere may not even be placed. */
  #mustWait(guest: Guest): string | undefined {
    const copy = this.#leaving.get(guest.id);
    if (copy) return `${copy.name} removes its earlier copy first`;
    const { hold } = this.#snapshot.site;
    if (hold && guest.status.recovery?.why === 'lost') return heldBy(hold);
    return this.#barred(guest) ? behindBarrier : undefined;
  }

  #barred(guest: Guest): boolean {
    const { barrier } = this.#settings;
    return barrier !== undefined && isHa(guest) && !barrier(guest);
  }

  /** Its host is not of the site any more. `removeHost` decides on its guests; this is what a race could leave. */
  #adrift(guest: Guest): void {
    if (guest.deletionAt !== undefined || guest.spec.releasing === true) return this.#gone(guest);
    this.#settle(guest, guest, undefined);
  }

  #gone(guest: Guest): void {
    this.#ledger.remove(guest);
    this.#ledger.event(guest, { type: 'guest.deleted', severity: 'info', message: `${guest.name} is gone` });
  }

  /** Its host's session is over. What can start elsewhere leaves the host; the rest waits for the host. */
  #orphan(guest: Guest, host: Host): void {
    const { loss } = host.status;
    if (!loss || staysBecause(guest, loss.session.number) !== undefined) {
      this.#settle(guest, waiting(guest, undefined), host);
      return;
    }
    if (guest.deletionAt !== undefined) {
      this.#leaves(host, takenOff(guest, []).left);
      return this.#gone(guest);
    }
    if (guest.spec.power === 'off' || guest.status.exhausted) return this.#takeOff(guest, guest, host);
    const { site } = this.#snapshot;
    const held = site.hold ? heldBy(site.hold) : waitsForHost(site, host);
    const wait = held ?? (this.#barred(guest) ? behindBarrier : undefined);
    if (wait !== undefined) {
      this.#settle(guest, waiting(guest, wait), host);
      return;
    }
    if (movesExhausted(guest, this.#now)) return this.#giveUp(guest, host);
    const recovery: Recovery = { from: host.name, why: 'lost', sinceAt: loss.lostAt };
    const { guest: off, left } = takenOff({ ...guest, status: { ...guest.status, recovery } }, []);
    this.#leaves(host, left);
    this.#waiting.push({ before: guest, guest: off });
  }

  #giveUp(guest: Guest, host: Host): void {
    const cause = exhaustedWhy(guest, 'moves');
    const message = `${guest.name} is given up: ${cause}`;
    this.#ledger.event(guest, { type: 'guest.exhausted', severity: 'error', message, cause });
    this.#takeOff(guest, exhausted(guest, 'moves', this.#now), host);
  }

  #takeOff(before: Guest, guest: Guest, host: Host): void {
    const { guest: off, left } = takenOff(guest, []);
    this.#leaves(host, left);
    this.#settle(before, off, undefined);
  }

  /** It was stopped to go back to a preferred host: what is left of it here goes first. */
  #leave(guest: Guest, host: Host): void {
    const { guest: off, left } = takenOff(guest, [`${host.name} removes its earlier copy first`]);
    this.#leaves(host, left);
    this.#settle(guest, off, undefined);
  }

  #leaves(host: Host, left: Leaving): void {
    const now = this.#hosts.get(host.id) ?? host;
    const entry = isGone(now) ? { ...left, over: true as const } : left;
    const leaving = [...(now.status.leaving ?? []), entry];
    this.#hosts.set(host.id, { ...now, status: { ...now.status, leaving } });
    this.#changedHosts.add(host.id);
  }

  /** Guests of a host that is back in a new session, most critical first, so many at once. */
  restart(): void {
    const most = this.#settings.startsAtOnce ?? usualStartsAtOnce;
    for (const guest of this.#stale.sort(byUrgency)) {
      const host = this.#hosts.get(guest.status.placement?.hostId ?? '');
      if (!host) continue;
      const on = guest.spec.power === 'on' && guest.deletionAt === undefined;
      const starts = on && !guest.spec.held && !guest.status.exhausted;
      const started = this.#starting.get(host.id) ?? 0;
      const wait = starts ? this.#turn(guest, host, started, most) : undefined;
      if (wait !== undefined) {
        this.#turnless = true;
        this.#settle(guest, waiting(guest, wait), host);
        continue;
      }
      const ordered = inNewSession(guest, host, this.#snapshot.site.epoch, this.#now);
      this.#countStart(this.#settle(guest, ordered, host), host);
    }
  }

  #turn(guest: Guest, host: Host, started: number, most: number): string | undefined {
    if (!host.status.keeper || host.status.keeper.silent) return `the keeper of ${host.name} does not answer`;
    if (this.#barred(guest)) return behindBarrier;
    return started >= most ? `its turn comes after ${count(most, 'guest')} that start on ${host.name}` : undefined;
  }

  /** Those that wait, most critical first, each where there is room; the others learn why not. */
  place(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting.sort((a, b) => byUrgency(a.guest, b.guest));
    const placer = new Placer(this.#snapshot, undefined, this.#hosts.values(), this.#starting);
    const left: (Waiting & { readonly shape: Shape })[] = [];
    for (const each of this.#waiting) {
      const shape = this.#shape(each.guest);
      const notOn = each.guest.status.recovery?.notOn;
      const place = (notOn === undefined ? undefined : placer.place({ ...shape, notOn })) ?? placer.place(shape);
      if (place) this.#placed(each, place);
      else left.push({ ...each, shape });
    }
    // Reasons have figures: they are taken when all are placed, or the next decision would find others.
    for (const { before, guest, shape } of left) {
      const reasons = placer.refusal(shape).sentences;
      this.#tell(before, guest, reasons);
      if (before.status.placement) this.#cannotYet(guest, reasons);
    }
  }

  #shape(guest: Guest): Shape {
    const shape = shapeOf(this.#snapshot, guest);
    if (guest.status.recovery?.why !== 'lost') return shape;
    return { ...shape, startsAtOnce: this.#settings.startsAtOnce ?? usualStartsAtOnce };
  }

  #placed({ before, guest }: Waiting, { host, reasons }: Place): void {
    const { recovery, movedAt } = guest.status;
    const there = placed(guest, host, reasons, this.#snapshot.site.epoch, this.#now);
    const cause = reasons[0] ?? '';
    if (!recovery) {
      const message = `${guest.name} was placed on ${host.name}`;
      this.#ledger.event(guest, {
        type: 'guest.placed',
        severity: 'info',
        message,
        cause,
        evidence: { host: host.name },
      });
      this.#settle(before, there, host);
      return;
    }
    const lost = recovery.why === 'lost';
    this.#ledger.event(guest, {
      type: lost ? 'guest.recovered' : 'guest.moved',
      severity: lost ? 'warning' : 'info',
      message: `${guest.name} starts on ${host.name}${lost ? `: its host ${recovery.from} was lost` : `, no longer on ${recovery.from}`}`,
      cause,
      evidence: { host: host.name, from: recovery.from, afterMs: Math.max(0, this.#now - recovery.sinceAt) },
    });
    const moved = lost ? { ...there, status: { ...there.status, movedAt: noted(movedAt, this.#now) } } : there;
    this.#settle(before, moved, host);
  }

  #cannotYet(guest: Guest, reasons: readonly string[]): void {
    const message = `${guest.name} cannot start elsewhere yet: ${reasons.slice(0, 3).join('; ')}`;
    this.#ledger.event(guest, { type: 'guest.waits', severity: 'warning', message, cause: reasons[0] ?? '' });
  }

  /** Why it is nowhere. */
  #tell(before: Guest, guest: Guest, reasons: readonly string[]): void {
    this.#settle(before, same(guest.status.unplaced, reasons) ? guest : unplaced(guest, reasons), undefined);
  }

  /** One guest goes back to a host that it prefers, when nothing is more urgent. */
  failBack(): void {
    if (this.#wouldGoBack.length === 0 || this.#goingBack || this.#snapshot.site.hold) return;
    if (this.#waiting.length > 0 || this.#turnless || this.#starting.size > 0) return;
    for (const guest of this.#wouldGoBack.sort(byUrgency)) {
      const host = backTo(this.#snapshot, this.#hosts, guest, this.#now);
      const from = this.#hosts.get(guest.status.placement?.hostId ?? '');
      if (!host || !from || this.#ledger.has(guest.id)) continue;
      const recovery: Recovery = { from: from.name, why: 'fail-back', sinceAt: this.#now };
      const told = { ...guest, status: { ...guest.status, recovery } };
      this.#ledger.event(guest, {
        type: 'guest.fail-back',
        severity: 'info',
        message: `${guest.name} goes back to ${host.name}, which it prefers: it is stopped on ${from.name} first`,
        evidence: { host: host.name, from: from.name },
      });
      this.#settle(guest, nextOrder(told, this.#snapshot.site.epoch), from);
      return;
    }
  }

  /** Complaints of hosts that are no longer there. */
  cleanNetworks(): void {
    for (const network of this.#snapshot.all('network')) {
      const { problems } = network.status;
      if (problems.length === 0) continue;
      const left = problems.filter((each) => this.#snapshot.byName('host', each.host));
      if (left.length < problems.length)
        this.#ledger.put({ ...network, status: { ...network.status, problems: left } });
    }
  }

  cleanExpired(): void {
    for (const kind of ['invite', 'token'] as const)
      for (const each of this.#snapshot.all(kind))
        if (this.#now - each.spec.expiresAt > keepExpiredMs[kind]) this.#ledger.remove(each);
  }

  finish(): Decision {
    for (const id of this.#changedHosts) {
      const host = this.#hosts.get(id);
      if (host) this.#ledger.put(host);
    }
    return this.#ledger.finish();
  }

  /** Writes the guest with the state that its facts mean; nothing when it is so already. `host`: the one it is on. */
  #settle(before: Guest, after: Guest, host: Host | undefined): Guest {
    const next = restated(after, host, this.#now);
    const { power, held } = next.spec;
    if (next.status.recovery?.why === 'fail-back' && power === 'on' && !held) this.#goingBack = true;
    if (next === before) return next;
    this.#ledger.put(next, host);
    const event = stateEvent(before, next, host, this.#now);
    if (event) this.#ledger.events(event);
    return next;
  }
}
