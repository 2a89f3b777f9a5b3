/** How a guest changes: every change of its order gets a new generation, and its state always follows what was seen. */
import { isHa } from './ha/eligible.ts';
import { withConditions } from './model/conditions.ts';
import type { Guest, GuestSpec, Placement } from './model/guest.ts';
import type { Host } from './model/host.ts';
import type { Instant } from './model/resource.ts';
import type { NewEvent } from './model/snapshot.ts';
import { guestState } from './model/states.ts';
import { without } from './util.ts';

/** The guest's order is of the session that its host is in; else a highly available one waits for a new order. */
export function inSession({ status }: Guest, host: Host): boolean {
  const [mine, theirs] = [status.placement?.session, host.status.session];
  return mine !== undefined && mine.number === theirs?.number && mine.id === theirs.id;
}

/** A changed spec under a new order. Generations only rise; without a placement there is no order yet. */
export function reorder(guest: Guest, spec: GuestSpec, epoch: number): Guest {
  return nextOrder({ ...guest, spec, generation: guest.generation + 1 }, epoch);
}

/**
 * The same guest under a new order (its spec changed, or its deletion was asked for). `epoch`: the present leader's, since
 * keepers register no order of an earlier one (host-lease, rule 9).
 */
export function nextOrder(guest: Guest, epoch: number): Guest {
  const { placement } = guest.status;
  if (!placement) return guest;
  const generation = guest.status.lastGeneration + 1;
  return {
    ...guest,
    status: {
      ...guest.status,
      lastGeneration: generation,
      placement: { ...marked(placement, placement.ha === true && isHa(guest)), epoch, generation },
    },
  };
}

/** The guest under a first order of the session that its host is in now; the old session's copies are gone with it. */
export function inNewSession(guest: Guest, host: Host, epoch: number, now: Instant): Guest {
  const ordered = nextOrder(guest, epoch);
  const { placement } = ordered.status;
  const { session } = host.status;
  if (!placement || !session) return guest;
  // The mark stays as it was: a session may end without a reboot, and what runs outside outlives it.
  const there = { ...placement, session, placedAt: now };
  return { ...ordered, status: { ...without(ordered.status, 'waits'), placement: there } };
}

/** With the mark that nothing of it can run outside its session's group, or without. */
export function marked(placement: Placement, ha: boolean): Placement {
  if ((placement.ha === true) === ha) return placement;
  return ha ? { ...placement, ha } : without(placement, 'ha');
}

/** Puts the guest on a host under a new order. What another host saw of it no longer counts. */
export function placed(guest: Guest, host: Host, reasons: readonly string[], epoch: number, now: Instant): Guest {
  const generation = guest.status.lastGeneration + 1;
  const { session } = host.status;
  const placement: Placement = {
    hostId: host.id,
    ...(session ? { session } : {}),
    epoch,
    generation,
    placedAt: now,
    ...(isHa(guest) ? { ha: true } : {}),
    reasons,
  };
  return {
    ...guest,
    status: {
      ...without(guest.status, 'unplaced', 'observed', 'lost', 'placement', 'waits', 'recovery'),
      placement,
      lastGeneration: generation,
    },
  };
}

/** Takes the guest off its host; its highest generation stays known. */
export function unplaced(guest: Guest, reasons: readonly string[]): Guest {
  return { ...guest, status: { ...without(guest.status, 'placement', 'observed', 'waits'), unplaced: reasons } };
}

/** The guest with the reason why it is not started yet, or without one; the same object when that is so already. */
export function waiting(guest: Guest, why: string | undefined): Guest {
  if (guest.status.waits === why) return guest;
  const status = why === undefined ? without(guest.status, 'waits') : { ...guest.status, waits: why };
  return { ...guest, status };
}

/** The guest with the state that its observation means; the same object when that is what it says already. */
export function restated(guest: Guest, host: Host | undefined, now: Instant): Guest {
  const { state, reason } = guestState(guest, host);
  const { status } = guest;
  if (status.state === state && status.stateReason === reason) return guest;
  const stateAt = status.state === state ? status.stateAt : now;
  const rest = without(status, 'stateReason');
  return {
    ...guest,
    status: { ...rest, state, stateAt, ...(reason === undefined ? {} : { stateReason: reason }) },
  };
}

/** As `restated`, with its conditions: what is written of a guest. */
export function described(guest: Guest, host: Host | undefined, now: Instant): Guest {
  return withConditions(restated(guest, host, now), host, now);
}

/** The event of a change of state, or nothing. */
export function stateEvent(before: Guest, after: Guest, host: Host | undefined, now: Instant): NewEvent | undefined {
  const from = before.status.state;
  const to = after.status.state;
  if (from === to) return undefined;
  const where = host && after.status.placement ? ` on ${host.name}` : '';
  const why = after.status.stateReason;
  return {
    eventAt: now,
    type: 'guest.state',
    severity: to === 'failed' ? 'error' : to === 'unknown' ? 'warning' : 'info',
    subject: { kind: 'guest', id: after.id, name: after.name },
    message: `${after.name} is ${to}${where}${why === undefined ? '' : `: ${why}`}`,
    who: 'virga',
    ...(why === undefined ? {} : { cause: why }),
    evidence: { from, to, ...(host ? { host: host.name } : {}) },
  };
}
