/** How a guest changes: every change of its order gets a new generation, and its state always follows what was seen. */
import { withConditions } from './model/conditions.ts';
import type { Guest, GuestSpec, Placement } from './model/guest.ts';
import type { Host } from './model/host.ts';
import type { Instant } from './model/resource.ts';
import type { NewEvent } from './model/snapshot.ts';
import { guestState } from './model/states.ts';
import { without } from './util.ts';

/** A changed spec under a new order. Generations only rise; without a placement there is no order yet. */
export function reorder(guest: Guest, spec: GuestSpec): Guest {
  return nextOrder({ ...guest, spec, generation: guest.generation + 1 });
}

/** The same guest under a new order (its spec changed, or its deletion was asked for). */
export function nextOrder(guest: Guest): Guest {
  const { placement } = guest.status;
  if (!placement) return guest;
  const generation = guest.status.lastGeneration + 1;
  return {
    ...guest,
    status: { ...guest.status, lastGeneration: generation, placement: { ...placement, generation } },
  };
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
    reasons,
  };
  return {
    ...guest,
    status: {
      ...without(guest.status, 'unplaced', 'observed', 'lost', 'placement'),
      placement,
      lastGeneration: generation,
    },
  };
}

/** Takes the guest off its host; its highest generation stays known. */
export function unplaced(guest: Guest, reasons: readonly string[]): Guest {
  return { ...guest, status: { ...without(guest.status, 'placement', 'observed'), unplaced: reasons } };
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
