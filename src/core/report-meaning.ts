/** Which differences between two sights mean something, and which only flicker. */
import type { GuestObservation } from './model/guest.ts';
import type { HostStatus } from './model/host.ts';
import { same, without } from './util.ts';

/** Flickering figures are written at most so often, and only when they moved visibly. */
const flickerMs = 15_000;
const cpuPoints = 5;
/** Relative. */
const memoryShare = 0.05;
/** Of the whole: a progress bar should move. */
const progressStep = 0.05;

export function hostMeans(old: HostStatus, next: HostStatus): boolean {
  if (!same(firmHost(old), firmHost(next))) return true;
  if ((next.lastHeardAt ?? 0) - (old.lastHeardAt ?? 0) < flickerMs) return false;
  const [a, b] = [old.used, next.used];
  if (!a || !b) return a !== b;
  return (
    Math.abs(a.cpuPercent - b.cpuPercent) >= cpuPoints || moved(a.memoryMiB, b.memoryMiB) || moved(a.diskMiB, b.diskMiB)
  );
}

function firmHost(status: HostStatus): object {
  return without(status, 'used', 'lastHeardAt', 'observedAt');
}

export function guestMeans(old: GuestObservation | undefined, next: GuestObservation): boolean {
  if (!old || !same(firmGuest(old), firmGuest(next))) return true;
  if (progressed(old, next)) return true;
  if (next.observedAt - old.observedAt < flickerMs) return false;
  return Math.abs((old.cpuPercent ?? 0) - (next.cpuPercent ?? 0)) >= cpuPoints;
}

/** What is left when the flicker is taken out; of an error that comes again, the time is flicker as well. */
function firmGuest(seen: GuestObservation): object {
  const firm = without(seen, 'observedAt', 'cpuPercent', 'preparing', 'error');
  return {
    ...firm,
    preparing: seen.preparing?.what,
    ...(seen.error ? { error: without(seen.error, 'errorAt') } : {}),
  };
}

function progressed(old: GuestObservation, next: GuestObservation): boolean {
  return Math.abs((old.preparing?.progress ?? 0) - (next.preparing?.progress ?? 0)) >= progressStep;
}

function moved(old: number, next: number): boolean {
  return Math.abs(old - next) > memoryShare * Math.max(old, next);
}
