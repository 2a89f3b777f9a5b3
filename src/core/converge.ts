/**
 * One decision of the controller: (state, now, who was heard) → what to write, with reasons. Pure; with nothing to do
 * it writes nothing, and deciding again on what it decided finds nothing to do.
 */
import { placed, restated, stateEvent, unplaced } from './guest-orders.ts';
import { withConditions } from './model/conditions.ts';
import type { Guest } from './model/guest.ts';
import type { Host } from './model/host.ts';
import type { Instant, Kind, Uuid } from './model/resource.ts';
import type { AnyResource, Change, NewEvent, Snapshot } from './model/snapshot.ts';
import type { Shape } from './place/fit.ts';
import { shapeOf } from './place/fit.ts';
import type { Place } from './place/placer.ts';
import { Placer } from './place/placer.ts';
import type { Expected } from './requests/result.ts';
import { compareText, same } from './util.ts';

export interface DecideSettings {
  /** A host that was not heard from for so long is silent. */
  readonly silentAfterMs: number;
  /** When this controller began to listen: before, nobody could have been heard. */
  readonly listeningSinceAt: Instant;
}
export const defaultSettings: DecideSettings = { silentAfterMs: 10_000, listeningSinceAt: 0 };

export interface Decision {
  readonly change: Change;
  /** What was read; each must still have this revision when it is written. */
  readonly expect: readonly Expected[];
}

/** Used and expired invitations and tokens stay a while, so that their use can still be explained. */
const keepExpiredMs = { invite: 24 * 3600_000, token: 30 * 24 * 3600_000 };

/** `lastHeard`: when each host's last report came, kept by the caller so that an idle site writes nothing. */
export function decide(
  snapshot: Snapshot,
  now: Instant,
  lastHeard: ReadonlyMap<Uuid, Instant>,
  settings: DecideSettings = defaultSettings,
): Decision {
  const round = new Round(snapshot, now);
  for (const host of snapshot.all('host')) round.host(host, lastHeard.get(host.id), settings);
  for (const guest of snapshot.all('guest')) round.guest(guest);
  round.place();
  round.cleanNetworks();
  round.cleanExpired();
  return round.finish();
}

class Round {
  readonly #snapshot: Snapshot;
  readonly #now: Instant;
  readonly #put: AnyResource[] = [];
  readonly #remove: { kind: Kind; id: Uuid }[] = [];
  readonly #events: NewEvent[] = [];
  readonly #expect: Expected[] = [];
  /** Hosts as they are after this round. */
  readonly #hosts = new Map<Uuid, Host>();
  readonly #waiting: Guest[] = [];

  constructor(snapshot: Snapshot, now: Instant) {
    this.#snapshot = snapshot;
    this.#now = now;
  }

  host(host: Host, heard: Instant | undefined, settings: DecideSettings): void {
    let next = host;
    if (host.status.state === 'online') {
      const heardAt = Math.max(heard ?? host.status.lastHeardAt ?? host.status.stateAt, settings.listeningSinceAt);
      if (this.#now - heardAt > settings.silentAfterMs) next = this.#silent(host, heardAt);
    }
    this.#hosts.set(host.id, next);
    if (next !== host) this.#write(next);
  }

  #silent(host: Host, heardAt: Instant): Host {
    const seconds = Math.round((this.#now - heardAt) / 1000);
    this.#event(host, 'host.silent', 'warning', `${host.name} was not heard from for ${seconds} s`, { seconds });
    return { ...host, status: { ...host.status, state: 'silent', stateAt: this.#now, lastHeardAt: heardAt } };
  }

  /** A guest's own part: it goes, it waits for a host, or its state follows what was seen. */
  guest(guest: Guest): void {
    const { placement } = guest.status;
    if (!placement) return this.#nowhere(guest);
    const host = this.#hosts.get(placement.hostId);
    if (!host) return this.#adrift(guest);
    const next = restated(guest, host, this.#now);
    if (next !== guest) this.#change(guest, next, host);
  }

  #nowhere(guest: Guest): void {
    if (guest.deletionAt !== undefined || guest.spec.releasing === true) return this.#gone(guest);
    const { power, held } = guest.spec;
    if (power === 'on' && !held && !guest.status.lost) {
      this.#waiting.push(guest);
      return;
    }
    const next = restated(guest, undefined, this.#now);
    if (next !== guest) this.#change(guest, next, undefined);
  }

  /** Its host is not of the site any more. `removeHost` decides on its guests; this is what a race could leave. */
  #adrift(guest: Guest): void {
    if (guest.deletionAt !== undefined || guest.spec.releasing === true) return this.#gone(guest);
    const next = restated(guest, undefined, this.#now);
    if (next !== guest) this.#change(guest, next, undefined);
  }

  #gone(guest: Guest): void {
    this.#remove.push({ kind: 'guest', id: guest.id });
    this.#expect.push({ kind: 'guest', id: guest.id, revision: guest.revision });
    this.#event(guest, 'guest.deleted', 'info', `${guest.name} is gone`);
  }

  /** Those that wait, longest first, each where there is room; the others learn why not. */
  place(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting.sort((a, b) => a.createdAt - b.createdAt || compareText(a.name, b.name));
    const placer = new Placer(this.#snapshot, undefined, this.#hosts.values());
    const left: { guest: Guest; shape: Shape }[] = [];
    for (const guest of this.#waiting) {
      const shape = shapeOf(this.#snapshot, guest);
      const place = placer.place(shape);
      if (place) this.#placed(guest, place);
      else left.push({ guest, shape });
    }
    // Reasons have figures: they are taken when all are placed, or the next decision would find others.
    for (const { guest, shape } of left) this.#waits(guest, placer.refusal(shape).sentences);
  }

  #placed(guest: Guest, { host, reasons }: Place): void {
    const next = placed(guest, host, reasons, this.#snapshot.site.epoch, this.#now);
    const evidence = { host: host.name };
    this.#event(guest, 'guest.placed', 'info', `${guest.name} was placed on ${host.name}`, evidence, reasons[0]);
    this.#change(guest, restated(next, host, this.#now), host);
  }

  #waits(guest: Guest, reasons: readonly string[]): void {
    const told = same(guest.status.unplaced, reasons) ? guest : unplaced(guest, reasons);
    const next = restated(told, undefined, this.#now);
    if (next !== guest) this.#change(guest, next, undefined);
  }

  /** Complaints of hosts that are no longer there. */
  cleanNetworks(): void {
    for (const network of this.#snapshot.all('network')) {
      const { problems } = network.status;
      if (problems.length === 0) continue;
      const left = problems.filter((each) => this.#snapshot.byName('host', each.host));
      if (left.length < problems.length) this.#write({ ...network, status: { ...network.status, problems: left } });
    }
  }

  cleanExpired(): void {
    for (const kind of ['invite', 'token'] as const) {
      for (const each of this.#snapshot.all(kind)) {
        if (this.#now - each.spec.expiresAt <= keepExpiredMs[kind]) continue;
        this.#remove.push({ kind, id: each.id });
        this.#expect.push({ kind, id: each.id, revision: each.revision });
      }
    }
  }

  finish(): Decision {
    return { change: { put: this.#put, remove: this.#remove, events: this.#events }, expect: this.#expect };
  }

  #change(before: Guest, after: Guest, host: Host | undefined): void {
    this.#write(after, host);
    const event = stateEvent(before, after, host, this.#now);
    if (event) this.#events.push(event);
  }

  /** `host`: the one that a guest is on. */
  #write(resource: AnyResource, host?: Host): void {
    this.#put.push({ ...withConditions(resource, host, this.#now), updatedAt: this.#now });
    this.#expect.push({ kind: resource.kind, id: resource.id, revision: resource.revision });
  }

  #event(
    subject: AnyResource,
    type: string,
    severity: NewEvent['severity'],
    message: string,
    evidence?: NewEvent['evidence'],
    cause?: string,
  ): void {
    this.#events.push({
      eventAt: this.#now,
      type,
      severity,
      subject: { kind: subject.kind, id: subject.id, name: subject.name },
      message,
      who: 'virga',
      ...(evidence ? { evidence } : {}),
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
