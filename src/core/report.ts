/** What a host says of itself becomes state: only what changed in meaning is written, with its cause. */
import { marked, nextOrder, restated, stateEvent } from './guest-orders.ts';
import { isHa } from './ha/eligible.ts';
import { isDown } from './ha/fail-back.ts';
import { exhausted, exhaustedWhy, noted, restartsExhausted } from './ha/recovery.ts';
import { Ledger } from './ledger.ts';
import type { GuestReport, HostReport, LeaseReport } from './model/assignment.ts';
import type { Guest } from './model/guest.ts';
import type { Host, HostStatus, KeeperFacts } from './model/host.ts';
import type { Instant, Uuid } from './model/resource.ts';
import type { Change, Snapshot } from './model/snapshot.ts';
import { guestEvents, hostEvents } from './report-events.ts';
import { guestMeans, hostMeans } from './report-meaning.ts';
import type { Expected } from './requests/result.ts';
import { compareText, same, without } from './util.ts';

export interface Received {
  readonly change: Change;
  /** What was read; each must still have this revision when it is written. */
  readonly expect: readonly Expected[];
  /** Why the report was not believed. */
  readonly ignored?: string;
}

/**
 * Takes a report in. Figures that only flicker (load, memory in use, progress) are written now and then, so that an idle
 * site writes nothing; the caller keeps the time of each report for `decide`. A report of an earlier life of the host is
 * ignored, and so is what it says of guests that are placed elsewhere.
 */
export function receiveReport(snapshot: Snapshot, hostId: Uuid, report: HostReport, now: Instant): Received {
  const host = snapshot.get('host', hostId);
  if (!host) return ignoring('the host is not of this site');
  if (report.hostId !== hostId) return ignoring('the report is of another host');
  const known = host.status.session;
  const over = host.status.loss?.session.number;
  if (over !== undefined && report.session.number <= over)
    return ignoring(`the report is of session ${report.session.number}, and sessions up to ${over} are over`);
  if (known && report.session.number < known.number)
    return ignoring(`the report is of session ${report.session.number}, the host is in session ${known.number}`);
  const intake = new Intake(snapshot, report, now);
  intake.host(host);
  intake.guests();
  intake.networks();
  return intake.finish();
}

function ignoring(ignored: string): Received {
  return { change: { put: [], remove: [], events: [] }, expect: [], ignored };
}

class Intake {
  readonly #snapshot: Snapshot;
  readonly #report: HostReport;
  readonly #now: Instant;
  readonly #gone: ReadonlyMap<Uuid, number>;
  readonly #ledger: Ledger;
  #host: Host | undefined;

  constructor(snapshot: Snapshot, report: HostReport, now: Instant) {
    this.#snapshot = snapshot;
    this.#report = report;
    this.#now = now;
    this.#ledger = new Ledger(now);
    this.#gone = new Map(report.gone.map((each) => [each.id, each.generation] as const));
  }

  host(host: Host): void {
    const next: Host = { ...host, status: hostStatus(host, this.#report, this.#gone, this.#now) };
    if (!hostMeans(host.status, next.status)) {
      this.#host = host;
      return;
    }
    this.#host = next;
    this.#ledger.put(next);
    this.#ledger.events(...hostEvents(host, next, this.#now));
  }

  /** All guests that are placed here: those that the report lists, and those that wait for a first sight. */
  guests(): void {
    const host = this.#host;
    if (!host) return;
    const seen = new Map(this.#report.guests.map((each) => [each.id, each] as const));
    for (const guest of this.#snapshot.guestsOn(host.id)) {
      if (this.#isGone(guest)) this.#drop(guest, host);
      else this.#guest(guest, seen.get(guest.id), host);
    }
  }

  #isGone(guest: Guest): boolean {
    if (guest.deletionAt === undefined && guest.spec.releasing !== true) return false;
    return (this.#gone.get(guest.id) ?? -1) >= (guest.status.placement?.generation ?? 0);
  }

  #drop(guest: Guest, host: Host): void {
    const released = guest.deletionAt === undefined;
    this.#ledger.remove(guest);
    this.#ledger.event(guest, {
      type: released ? 'guest.released' : 'guest.deleted',
      severity: 'info',
      message: released
        ? `${guest.name} was given back on ${host.name}`
        : `${guest.name} was removed from ${host.name}`,
      evidence: { host: host.name },
    });
  }

  #guest(guest: Guest, seen: GuestReport | undefined, host: Host): void {
    const { epoch } = this.#snapshot.site;
    const looked = proved(ofSession(seen ? observed(guest, seen, this.#now) : guest, this.#report));
    const next = restated(this.#limited(forgetSnapshots(this.#orderedAnew(looked), epoch), host), host, this.#now);
    if (next === guest) return;
    this.#ledger.put(next, host);
    this.#ledger.events(...guestEvents(guest, next, host, this.#now));
    const event = stateEvent(guest, next, host, this.#now);
    if (event) this.#ledger.events(event);
  }

  /**
   * The host will not carry out its present order any more (its keeper refused it, or was asked to bar it), so the guest
   * gets a new one. An order of an earlier session is renewed by `decide`, in its turn.
   */
  #orderedAnew(guest: Guest): Guest {
    const { placement, lastGeneration, observed } = guest.status;
    const accepted = observed?.accepted ?? -1;
    if (placement && accepted > placement.generation && !this.#snapshot.site.review) {
      // The state lost its last rows: the host saw a later order, and carries out none below it.
      const raised = { ...guest, status: { ...guest.status, lastGeneration: Math.max(accepted, lastGeneration) } };
      return nextOrder(raised, this.#snapshot.site.epoch);
    }
    const gone = this.#gone.get(guest.id);
    if (gone === undefined || !placement || gone < placement.generation || !isHa(guest)) return guest;
    const known = gone > lastGeneration ? { ...guest, status: { ...guest.status, lastGeneration: gone } } : guest;
    if (!same(placement.session, this.#report.session)) return known;
    return nextOrder(known, this.#snapshot.site.epoch);
  }

  /** Too many restarts: it is given up. */
  #limited(guest: Guest, host: Host): Guest {
    if (guest.status.exhausted || !restartsExhausted(guest, this.#now)) return guest;
    const cause = exhaustedWhy(guest, 'restarts');
    this.#ledger.event(guest, {
      type: 'guest.exhausted',
      severity: 'error',
      message: `${guest.name} on ${host.name} is given up: ${cause}`,
      cause,
    });
    return nextOrder(exhausted(guest, 'restarts', this.#now), this.#snapshot.site.epoch);
  }

  /** What this host says of the networks; the other hosts' words stay. */
  networks(): void {
    const host = this.#host;
    if (!host) return;
    for (const network of this.#snapshot.all('network')) {
      const said = this.#report.networkProblems.filter((each) => each.networkId === network.id);
      const message = said.map((each) => each.message).join('; ');
      const before = network.status.problems.find((each) => each.host === host.name)?.message ?? '';
      if (message === before) continue;
      const others = network.status.problems.filter((each) => each.host !== host.name);
      const problems = message === '' ? others : [...others, { host: host.name, message }];
      problems.sort((a, b) => compareText(a.host, b.host));
      this.#ledger.put({ ...network, status: { ...network.status, problems } });
      const well = message === '';
      this.#ledger.event(
        network,
        {
          type: well ? 'network.well' : 'network.problem',
          severity: well ? 'info' : 'warning',
          message: well ? `${network.name} works on ${host.name}` : `${network.name} on ${host.name}: ${message}`,
        },
        `host:${host.name}`,
      );
    }
  }

  finish(): Received {
    return this.#ledger.finish();
  }
}

function hostStatus(host: Host, report: HostReport, gone: ReadonlyMap<Uuid, number>, now: Instant): HostStatus {
  const { status } = host;
  // One that does not answer its agent may be just the one that must still hear of the leader.
  const silent = status.keeper && { ...status.keeper, silent: true as const };
  const keeper = report.lease ? keeperFacts(report.lease) : silent;
  const leaving = status.leaving?.filter((each) => (gone.get(each.id) ?? -1) < each.generation) ?? [];
  return {
    ...without(status, 'engine', 'leaving', 'keeper'),
    state: 'online',
    stateAt: status.state === 'online' ? status.stateAt : now,
    lastHeardAt: now,
    observedAt: report.observedAt,
    session: report.session,
    agentVersion: report.agentVersion,
    protocol: report.protocol,
    ...(report.engine ? { engine: report.engine } : {}),
    ...(keeper ? { keeper } : {}),
    network: { bridges: report.network.bridges.toSorted() },
    measured: report.measured,
    used: report.used,
    foreign: report.foreign.toSorted((a, b) => compareText(a.uuid, b.uuid)),
    strays: report.strays.toSorted((a, b) => compareText(a.id, b.id)),
    images: report.images.toSorted(),
    assignmentGeneration: report.assignmentGeneration,
    problems: report.problems,
    ...(leaving.length > 0 ? { leaving } : {}),
  };
}

function keeperFacts({ diskId, addresses, version }: LeaseReport): KeeperFacts {
  return { diskId, addresses: addresses.toSorted(), version };
}

/** The guest as it was seen; the same object when that means nothing new. */
function observed(guest: Guest, seen: GuestReport, now: Instant): Guest {
  const old = guest.status.observed;
  const next = without(seen, 'id');
  if (!guestMeans(old, next)) return guest;
  // What was restarted before the first sight was counted elsewhere, or not wanted.
  const again = old ? next.restarts - old.restarts : 0;
  const restartedAt = again > 0 ? noted(guest.status.restartedAt, now, again) : guest.status.restartedAt;
  return { ...guest, status: { ...guest.status, observed: next, ...(restartedAt ? { restartedAt } : {}) } };
}

/** Seen inside its session's group, or off, under an order of a highly available guest: from then on it runs nowhere else. */
function proved(guest: Guest): Guest {
  const { observed: seen, placement } = guest.status;
  if (!seen || !placement || placement.ha === true || !isHa(guest) || seen.generation < placement.generation)
    return guest;
  if (seen.inside !== true && !isDown(guest)) return guest;
  return { ...guest, status: { ...guest.status, placement: marked(placement, true) } };
}

/** The order stands for the life that the host is in now; one of a highly available guest has to be given anew. */
function ofSession(guest: Guest, report: HostReport): Guest {
  const { placement } = guest.status;
  if (!placement || isHa(guest) || same(placement.session, report.session)) return guest;
  return { ...guest, status: { ...guest.status, placement: { ...placement, session: report.session } } };
}

/** Snapshots that were to go, and that the host does not report any more under its present order, leave the guest. */
function forgetSnapshots(guest: Guest, epoch: number): Guest {
  const { observed: seen, placement } = guest.status;
  if (!seen || seen.generation < (placement?.generation ?? 0)) return guest;
  const { snapshots } = guest.spec;
  const left = snapshots.filter((each) => each.wanted || seen.snapshots.some((there) => there.id === each.id));
  if (left.length === snapshots.length) return guest;
  return nextOrder({ ...guest, spec: { ...guest.spec, snapshots: left }, generation: guest.generation + 1 }, epoch);
}
