/** One round: the devices of one host, level by level, until one is off for certain. Knows nothing but ports. */
import { deviceKey, deviceProblem, judgeOff, type FenceSight } from '../../core/ha/fencing.ts';
import type { LeaseProfile } from '../../core/ha/types.ts';
import type { FenceDevice, HostSession } from '../../core/model/host.ts';
import type { Clock, Fencer, PowerSight } from '../../ports.ts';
import type { FenceAttempt, FenceOutcome } from './door.ts';

export interface RoundWorld {
  readonly clock: Clock;
  readonly fencer: Fencer;
  readonly signal: AbortSignal;
  /** Now, not when the round began. */
  sight(): FenceSight | undefined;
  leading(): boolean;
  profile(): LeaseProfile;
  /** Why the next device is not to be used any more (held, heard again, no majority); nothing: go on. */
  stop(): string | undefined;
  /** Why this device's word is worth nothing; nothing: it may be used. */
  suspect(key: string): string | undefined;
  note(attempt: FenceAttempt): void;
}

export interface RoundOrder {
  readonly session: HostSession;
  readonly devices: readonly FenceDevice[];
  readonly who: string;
  readonly reason: string;
}

/** Milliseconds between two looks at the voters while a device's word is judged. */
const lookMs = 100;

/** @returns the attempt that is believed, if any, and all that were made */
export async function fenceRound(
  order: RoundOrder,
  world: RoundWorld,
): Promise<{ readonly off?: FenceAttempt; readonly attempts: readonly FenceAttempt[]; readonly stopped?: string }> {
  const attempts: FenceAttempt[] = [];
  for (const [index, device] of order.devices.entries()) {
    if ((device.delayMs ?? 0) > 0) await world.clock.sleep(device.delayMs ?? 0, world.signal).catch(() => undefined);
    // What was true before the delay may have changed: the host is back, or somebody began to work on the network.
    const stopped = world.signal.aborted ? 'the controller stops' : world.stop();
    if (stopped !== undefined) return { attempts, stopped };
    const attempt = await useDevice(order, device, index + 1, world);
    attempts.push(attempt);
    world.note(attempt);
    if (attempt.outcome === 'off') return { off: attempt, attempts };
  }
  return { attempts };
}

async function useDevice(
  order: RoundOrder,
  device: FenceDevice,
  level: number,
  world: RoundWorld,
): Promise<FenceAttempt> {
  const at = world.clock.now();
  const problem = deviceProblem(device) ?? world.suspect(deviceKey(device));
  const sight: PowerSight =
    problem === undefined
      ? await world.fencer.off(device, world.signal)
      : { power: 'unknown', failure: 'refused', detail: problem, ms: 0 };
  const { outcome, detail } = sight.power === 'off' ? await believe(order.session, sight, world) : plain(sight);
  const { who, reason } = order;
  return { at, what: 'off', level, agent: device.agent, outcome, detail, ms: Math.round(sight.ms), who, reason };
}

/** What a device said, where nothing has to be judged. */
export function plain({ power, failure, detail }: PowerSight): { outcome: FenceOutcome; detail: string } {
  if (power !== 'unknown') return { outcome: power, detail };
  return { outcome: failure ?? 'failed', detail };
}

/** The voters have the last word: a host that they hear is not off. */
async function believe(
  session: HostSession,
  said: PowerSight,
  world: RoundWorld,
): Promise<{ outcome: FenceOutcome; detail: string }> {
  const saidAt = world.clock.monotonic();
  for (;;) {
    const agoMs = world.clock.monotonic() - saidAt;
    const judged = judgeOff({ session, agoMs }, world.sight(), world.leading(), world.profile());
    if (judged.verdict === 'counts') return { outcome: 'off', detail: said.detail };
    if (judged.verdict === 'refused') return { outcome: 'disbelieved', detail: judged.why };
    if (world.signal.aborted) return { outcome: 'disbelieved', detail: 'the controller stops' };
    await world.clock.sleep(lookMs, world.signal).catch(() => undefined);
  }
}
