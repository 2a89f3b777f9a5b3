/** What the host says of itself: whole, at every change, and at least every two seconds. */
import {
  linkProtocol,
  type Assignment,
  type GuestOrder,
  type GuestReport,
  type HostReport,
} from '../core/model/assignment.ts';
import { newJournal, type GuestJournal } from '../core/host/journal.ts';
import { whereabouts } from '../core/host/groups.ts';
import { strays } from '../core/host/strays.ts';
import type { GuestAddress } from '../core/model/guest.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { EngineGuest, EngineView } from '../ports.ts';
import type { ImageFetches } from './fetches.ts';
import type { LeaseWatch } from './lease.ts';
import type { AgentIdentity, AgentPorts } from './ports.ts';
import type { Upkeep } from './upkeep.ts';

/** Milliseconds (monotonic) after which a report goes out although nothing changed. */
const everyMs = 2000;
const nothing = { cpus: 0, memoryMiB: 0, diskMiB: 0 };

export interface Reported {
  readonly assignment: Assignment | undefined;
  readonly journals: ReadonlyMap<Uuid, GuestJournal>;
  readonly unreadable: readonly Uuid[];
  /** Absent: the engine does not answer. */
  readonly view: EngineView | undefined;
  /** Guests that were worked on when we looked: what became of them is judged at the next look. */
  readonly busy: ReadonlySet<Uuid>;
  readonly waiting: ReadonlyMap<Uuid, { readonly reason: string }>;
  readonly preparing: ReadonlyMap<Uuid, { readonly what: string; readonly progress: number }>;
  readonly fetches: ImageFetches;
  readonly upkeep: Upkeep;
  readonly lease: LeaseWatch;
  readonly engineProblem?: string;
}

export class Reporter {
  readonly #ports: AgentPorts;
  readonly #identity: AgentIdentity;
  readonly #cpu = new Map<Uuid, { readonly at: number; readonly seconds: number; readonly percent: number }>();
  #sentAt = Number.NEGATIVE_INFINITY;
  #sentKey = '';
  #sequence = 0;
  #images: readonly string[] = [];
  readonly #guestsBefore = new Map<Uuid, GuestReport>();
  /** Last seen of each guest, shown while the engine does not answer, with the time of that look. */
  #lastView: { readonly view: EngineView; readonly at: Instant } | undefined;

  constructor(ports: AgentPorts, identity: AgentIdentity) {
    this.#ports = ports;
    this.#identity = identity;
  }

  send(state: Reported): void {
    const { clock, link } = this.#ports;
    if (state.view) this.#lastView = { view: state.view, at: clock.now() };
    void this.#ports.images.list().then(
      (images) => (this.#images = images),
      () => undefined,
    );
    const report = this.#build(state);
    const key = stableKey(report);
    const now = clock.monotonic();
    if (key === this.#sentKey && now - this.#sentAt < everyMs) return;
    this.#sentKey = key;
    this.#sentAt = now;
    this.#sequence += 1;
    link.report({ ...report, sequence: this.#sequence });
  }

  #build(state: Reported): HostReport {
    const { hostId, agentVersion } = this.#identity;
    const { assignment, journals, upkeep, lease } = state;
    const view = this.#lastView?.view;
    const facts = upkeep.engineFacts;
    const problems = [
      ...(state.engineProblem === undefined ? [] : [state.engineProblem]),
      ...(lease.problem === undefined ? [] : [lease.problem]),
      ...state.unreadable.map((id) => `the journal of the guest ${id} cannot be read; nothing is done to it`),
    ];
    return {
      hostId,
      session: lease.session,
      ...(lease.report ? { lease: lease.report } : {}),
      agentVersion,
      protocol: linkProtocol,
      observedAt: this.#ports.clock.now(),
      assignmentGeneration: assignment?.generation ?? -1,
      assignmentEpoch: assignment?.epoch ?? -1,
      ...(facts ? { engine: facts } : {}),
      network: upkeep.measured?.network ?? { bridges: [] },
      measured: upkeep.measured?.measured ?? nothing,
      used: upkeep.measured?.used ?? { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 },
      guests: this.#guests(state, view),
      gone: goneOf(journals, lease, assignment),
      foreign: view?.foreign ?? [],
      strays: view ? strays(assignment, view, journals) : [],
      images: this.#images,
      networkProblems: upkeep.networkProblems,
      problems,
    };
  }

  #guests(state: Reported, view: EngineView | undefined): GuestReport[] {
    const seen = new Map(view?.guests.map((guest) => [guest.id, guest]));
    const observedAt = this.#lastView?.at;
    if (observedAt === undefined) return [];
    const reports = (state.assignment?.guests ?? []).map((order) => this.#guestOf(order, state, seen, observedAt));
    this.#guestsBefore.clear();
    for (const report of reports) this.#guestsBefore.set(report.id, report);
    return reports;
  }

  #guestOf(
    order: GuestOrder,
    state: Reported,
    guests: ReadonlyMap<Uuid, EngineGuest>,
    observedAt: Instant,
  ): GuestReport {
    const seen = guests.get(order.id);
    const journal = state.journals.get(order.id) ?? newJournal(order);
    // Ended in the middle of a step: told with the way it ended, once that is in the journal.
    const unjudged = !seen && journal.running !== undefined && state.busy.has(order.id);
    const before = this.#guestsBefore.get(order.id);
    if (unjudged && before) return before;
    return {
      ...this.#observation(journal, seen, observedAt),
      ...this.#grouped(seen, state.lease),
      ...(journal.accepted > order.generation ? { accepted: journal.accepted } : {}),
      ...this.#progress(order, journal, state),
    };
  }

  #observation(journal: GuestJournal, seen: EngineGuest | undefined, observedAt: Instant): GuestReport {
    const running = seen && (seen.state === 'running' || seen.state === 'paused');
    const percent = seen ? this.#cpuPercent(seen) : undefined;
    return {
      id: journal.id,
      engine: seen?.state ?? 'absent',
      observedAt,
      generation: journal.generation,
      ...(running ? { since: { startedAt: seen.startedAt } } : {}),
      ...(journal.exit ? { exit: journal.exit } : {}),
      restarts: journal.restarts,
      startSeq: journal.startSeq,
      rebootSeq: journal.rebootSeq,
      rebuildSeq: journal.rebuildSeq,
      revertSeq: journal.revertSeq,
      ...(running ? { cpus: seen.cpus, memoryMiB: seen.memoryMiB, agentConnected: seen.agentConnected } : {}),
      ...(percent === undefined ? {} : { cpuPercent: percent }),
      addresses: seen?.addresses ?? [],
      snapshots: journal.snapshots.map(({ id, state, error, createdAt }) => {
        return { id, state, createdAt, ...(error === undefined ? {} : { error }) };
      }),
      ...(journal.error ? { error: { ...journal.error, gaveUp: journal.failures.gaveUp } } : {}),
    };
  }

  /** Whether it runs in the group of the lease's session, and stands still with it: as the kernel says, never as hoped. */
  #grouped(seen: EngineGuest | undefined, lease: LeaseWatch): Pick<GuestReport, 'inside' | 'frozen'> {
    if (!seen) return {};
    const inside = whereabouts(seen.group, this.#identity.hostId, lease.session, seen.id) === 'session';
    return { ...(inside ? { inside } : {}), ...(seen.frozen ? { frozen: true } : {}) };
  }

  /** What is under way or in the way, and the addresses that were assigned. */
  #progress(order: GuestOrder, journal: GuestJournal, state: Reported): Partial<GuestReport> {
    const sha512 = order.image?.sha512;
    const fetching = sha512 === undefined ? undefined : state.fetches.progress(sha512);
    const preparing =
      state.preparing.get(order.id) ??
      (fetching === undefined ? undefined : { what: 'fetching its image', progress: fetching });
    const waiting = state.waiting.get(order.id)?.reason;
    const problem = (sha512 === undefined ? undefined : state.fetches.problem(sha512)) ?? waiting;
    const stuck =
      problem !== undefined && order.power === 'on' && !journal.running && !journal.error && fetching === undefined;
    const errorAt = this.#ports.clock.now();
    const assigned: GuestAddress[] = order.nics.flatMap(({ ipv4, ipv6 }) => [
      ...(ipv4 === undefined ? [] : [{ source: 'assigned' as const, family: 4 as const, address: ipv4 }]),
      ...(ipv6 === undefined ? [] : [{ source: 'assigned' as const, family: 6 as const, address: ipv6 }]),
    ]);
    const reported = this.#lastView?.view.guests.find((guest) => guest.id === order.id)?.addresses ?? [];
    return {
      addresses: [...assigned, ...reported],
      ...(preparing ? { preparing } : {}),
      ...(stuck ? { error: { code: 'not_ready', message: problem, errorAt, gaveUp: false } } : {}),
    };
  }

  #cpuPercent(guest: EngineGuest): number | undefined {
    const at = this.#ports.clock.monotonic();
    const last = this.#cpu.get(guest.id);
    if (!last || at - last.at < 1000 || guest.cpuSeconds < last.seconds) {
      if (!last || guest.cpuSeconds < last.seconds)
        this.#cpu.set(guest.id, { at, seconds: guest.cpuSeconds, percent: 0 });
      return last?.percent;
    }
    const percent = Math.round(((guest.cpuSeconds - last.seconds) / ((at - last.at) / 1000)) * 100);
    this.#cpu.set(guest.id, { at, seconds: guest.cpuSeconds, percent });
    return percent;
  }
}

/**
 * Ours and the keeper's: of each guest the highest generation that will never run here. The keeper remembers for years;
 * what it says is told of guests that are ordered here, one way or the other: nobody asks of any else.
 */
function goneOf(
  journals: ReadonlyMap<Uuid, GuestJournal>,
  lease: LeaseWatch,
  assignment: Assignment | undefined,
): HostReport['gone'] {
  const ordered = new Set(assignment?.guests.map(({ id }) => id));
  const gone = new Map<Uuid, number>();
  const add = (id: Uuid, generation: number): void => void gone.set(id, Math.max(generation, gone.get(id) ?? -1));
  for (const { id, gone: end } of journals.values()) if (end) add(id, end.generation);
  for (const { guestId, generation } of lease.gone) if (ordered.has(guestId)) add(guestId, generation);
  return [...gone].map(([id, generation]) => ({ id, generation }));
}

/** What must change for a report to be sent before its time: not the clock, and not figures that always move. */
function stableKey(report: HostReport): string {
  const moving = new Set(['observedAt', 'errorAt', 'used', 'cpuPercent', 'leftMs', 'guardLagMs', 'roundTripsMs']);
  return JSON.stringify(report, (key, value: unknown) => (moving.has(key) ? undefined : value));
}
