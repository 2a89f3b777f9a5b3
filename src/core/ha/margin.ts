/** Profiles of the lease, and the margin between "the grants ran out" and "nothing runs there" (rule 13). */
import type { LeaseProfile } from './types.ts';

export const profiles: Readonly<Record<'default' | 'fast', LeaseProfile>> = {
  default: { lengthMs: 2000, boundMs: 500, drift: 0.01 },
  fast: { lengthMs: 1000, boundMs: 250, drift: 0.01 },
};

/** Milliseconds for what no term counts: timer granularity, the freezer itself (5 ms at most, measured). */
const slackMs = 20;

/** Longest lease that may be asked for (a planned restart of a keeper, rule 14). */
export const longestMs = 10_000;

/**
 * m(ℓ, k) = k + 2ρ(ℓ + k)/(1 − ρ) + 20 ms: how long after a grant of length ℓ ran out on the voter's clock its guests
 * are frozen for certain, with two clocks that each drift by ρ. Milliseconds.
 */
export function margin(lengthMs: number, boundMs: number, drift: number): number {
  return boundMs + (2 * drift * (lengthMs + boundMs)) / (1 - drift) + slackMs;
}

/** Milliseconds between two beats of a host. */
export const beatEveryMs = (lengthMs: number): number => lengthMs / 8;

/** Why a profile cannot be used, or nothing. */
export function profileProblem({ lengthMs, boundMs, drift }: LeaseProfile): string | undefined {
  if (!(lengthMs >= 500 && lengthMs <= longestMs)) return `the length must be 500 to ${longestMs} ms`;
  if (!(boundMs >= 100 && boundMs <= 5000)) return 'the bound must be 100 to 5,000 ms';
  if (!(drift >= 0 && drift <= 0.1)) return 'the drift must be 0 to 0.1';
  if (boundMs > lengthMs / 2) return 'the bound must be at most half the length';
  return undefined;
}
