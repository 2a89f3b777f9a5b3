/** What the rest of the controller may ask of fencing. */
import type { Instant, Uuid } from '../../core/model/resource.ts';

/**
 * `off`: the power is off for certain · `on`: the device says on · `failed`: it could not, or said nothing clear · `timeout`: it hung
 * and was killed · `refused`: its configuration is not taken · `disbelieved`: it says off, but voters hear the host, or
 * nobody could contradict it.
 */
export type FenceOutcome = 'off' | 'on' | 'failed' | 'timeout' | 'refused' | 'disbelieved';

/** One use of one device. Never holds a secret. */
export interface FenceAttempt {
  readonly at: Instant;
  readonly what: 'off' | 'test';
  /** From 1, in the order in which they are tried. */
  readonly level: number;
  readonly agent: string;
  readonly outcome: FenceOutcome;
  readonly detail: string;
  /** Milliseconds that the device took. */
  readonly ms: number;
  /** `virga`, or the person. */
  readonly who: string;
  readonly reason: string;
}

export interface FenceResult {
  /** The power is off for certain and the host is declared over; with `test`: every device answered as it should. */
  readonly ok: boolean;
  readonly attempts: readonly FenceAttempt[];
  /** Why it was broken off before all devices were used. */
  readonly stopped?: string;
}

export interface FenceDoor {
  /** Asks every device of the host for the state of the power. @throws VirgaError not_found · invalid_request (no device) */
  test(hostId: Uuid, who?: string): Promise<FenceResult>;
  /**
   * Powers the host off with its devices, level by level, by a person's word, and declares it over once that is believed.
   * @throws VirgaError not_found · invalid_request (no device, under way already, the site is held) · no_majority
   */
  fence(hostId: Uuid, who: string, reason: string): Promise<FenceResult>;
  /** The last 16, oldest first. */
  history(hostId: Uuid): readonly FenceAttempt[];
  /** Silent hosts that are not fenced now, each with the reason. */
  waits(): ReadonlyMap<Uuid, string>;
}
