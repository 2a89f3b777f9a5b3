/** What a host says of itself becomes state: only what changed in meaning is written, with its cause. */
import { nextOrder, restated, stateEvent } from './guest-orders.ts';
import type { GuestReport, HostReport } from './model/assignment.ts';
import { withConditions } from './model/conditions.ts';
import type { Guest } from './model/guest.ts';
import type { Host, HostStatus } from './model/host.ts';
import type { Instant, Kind, Uuid } from './model/resource.ts';
import type { AnyResource, Change, NewEvent, Snapshot } from './model/snapshot.ts';
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
  readonly #put: AnyResource[] = [];
  readonly #remove: { kind: Kind; id: Uuid }[] = [];
  readonly #events: NewEvent[] = [];
  readonly #expect: Expected[] = [];
  #host: Host | undefined;

  constructor(snapshot: Snapshot, report: HostReport, now: Instant) {
    this.#snapshot = snapshot;
    this.#report = report;
    this.#now = now;
    this.#gone = new Map(report.gone.map((each) => [each.id, each.generation] as const));
  }

  host(host: Host): void {
    const next: Host = { ...host, status: hostStatus(host, this.#report, this.#gone, this.#now) };
    if (!hostMeans(host.status, next.status)) {
      this.#host = host;
      return;
    }
    this.#host = next;
    this.#write(next);
    this.#events.push(...hostEvents(host, next, this.#now));
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
    this.#remove.push({ kind: 'guest', id: guest.id });
    this.#expect.push({ kind: 'guest', id: guest.id, revision: guest.revision });
    this.#events.push({
      eventAt: this.#now,
      type: released ? 'guest.released' : 'guest.deleted',
      severity: 'info',
      subject: { kind: 'guest', id: guest.id, name: guest.name },
      message: released
        ? `${guest.name} was given back on ${host.name}`
        : `${guest.name} was removed from ${host.name}`,
      who: 'virga',
      evidence: { host: host.name },
    });
  }

  #guest(guest: Guest, seen: GuestReport | undefined, host: Host): void {
    const looked = inSession(seen ? observed(guest, seen) : guest, this.#report);
    const next = restated(forgetSnapshots(looked), host, this.#now);
    if (next === guest) return;
    this.#write(next, host);
    this.#events.push(...guestEvents(guest, next, host, this.#now));
    const event = stateEvent(guest, next, host, this.#now);
    if (event) this.#events.push(event);
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
      this.#write({ ...network, status: { ...network.status, problems } });
      this.#events.push({
        eventAt: this.#now,
        type: message === '' ? 'network.well' : 'network.problem',
        severity: message === '' ? 'info' : 'warning',
        subject: { kind: 'network', id: network.id, name: network.name },
        message:
          message === '' ? `${network.name} works on ${host.name}` : `${network.name} on ${host.name}: ${message}`,
        who: `host:${host.name}`,
      });
    }
  }

  finish(): Received {
    return { change: { put: this.#put, remove: this.#remove, events: this.#events }, expect: this.#expect };
  }

  /** `host`: the one that a guest is on. */
  #write(resource: AnyResource, host?: Host): void {
    this.#put.push({ ...withConditions(resource, host, this.#now), updatedAt: this.#now });
    this.#expect.push({ kind: resource.kind, id: resource.id, revision: resource.revision });
  }
}

function hostStatus(host: Host, report: HostReport, gone: ReadonlyMap<Uuid, number>, now: Instant): HostStatus {
  const { status } = host;
  const leaving = status.leaving?.filter((each) => (gone.get(each.id) ?? -1) < each.generation) ?? [];
  return {
    ...without(status, 'engine', 'leaving'),
    state: 'online',
    stateAt: status.state === 'online' ? status.stateAt : now,
    lastHeardAt: now,
    observedAt: report.observedAt,
    session: report.session,
    agentVersion: report.agentVersion,
    protocol: report.protocol,
    ...(report.engine ? { engine: report.engine } : {}),
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

/** The guest as it was seen; the same object when that means nothing new. */
function observed(guest: Guest, seen: GuestReport): Guest {
  const next = without(seen, 'id');
  if (!guestMeans(guest.status.observed, next)) return guest;
  return { ...guest, status: { ...guest.status, observed: next } };
}

/** The order stands for the life that the host is in now. */
function inSession(guest: Guest, report: HostReport): Guest {
  const { placement } = guest.status;
  if (!placement || same(placement.session, report.session)) return guest;
  return { ...guest, status: { ...guest.status, placement: { ...placement, session: report.session } } };
}

/** Snapshots that were to go, and that the host does not report any more under its present order, leave the guest. */
function forgetSnapshots(guest: Guest): Guest {
  const { observed: seen, placement } = guest.status;
  if (!seen || seen.generation < (placement?.generation ?? 0)) return guest;
  const { snapshots } = guest.spec;
  const left = snapshots.filter((each) => each.wanted || seen.snapshots.some((there) => there.id === each.id));
  if (left.length === snapshots.length) return guest;
  return nextOrder({ ...guest, spec: { ...guest.spec, snapshots: left }, generation: guest.generation + 1 });
}
