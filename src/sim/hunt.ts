/**
 * `virga sim`: hours of random faults in virtual time, history after history, until a law is violated. The failing history
 * is shrunk and printed with its log and the way to run it again.
 */
import { allRules, type Rules } from '../core/ha/rules.ts';
import { historyOf, shapes, type History, type ShapeName } from './history.ts';
import { runHistory, type Verdict } from './run.ts';
import { logOf } from './scenario.ts';
import { shrink } from './shrink.ts';

export interface HuntOptions {
  readonly seed: number;
  /** Simulated hours. */
  readonly hours: number;
  readonly shape?: ShapeName;
  /** Runs this history alone. */
  readonly history?: History;
  /** A rule left out, to see what it is good for. */
  readonly rules?: Rules;
}

export interface HuntProgress {
  readonly histories: number;
  readonly simulatedMs: number;
  /** Of the history that runs now. */
  readonly seed: number;
}

export interface HuntResult extends HuntProgress {
  readonly failure?: {
    readonly found: History;
    readonly minimal: History;
    readonly verdict: Verdict;
    readonly log: string;
  };
}

const hourMs = 3_600_000;

/** Hunts until the hours are over, a law is violated, or `stop` says so. */
export async function hunt(
  options: HuntOptions,
  told: (progress: HuntProgress) => void,
  stop: () => boolean,
): Promise<HuntResult> {
  const { shape, rules = allRules } = options;
  let progress: HuntProgress = { histories: 0, simulatedMs: 0, seed: options.seed };
  while (progress.simulatedMs < options.hours * hourMs && !stop()) {
    const history = options.history ?? historyOf(progress.seed, shape === undefined ? {} : { shape });
    const verdict = await runHistory(history, rules);
    progress = { ...progress, histories: progress.histories + 1, simulatedMs: progress.simulatedMs + verdict.ms };
    if (verdict.violations.length > 0) {
      told(progress);
      const { history: minimal, verdict: last } = await shrink(history, verdict, rules, stop);
      return { ...progress, failure: { found: history, minimal, verdict: last, log: await logOf(last.world, 0) } };
    }
    if (options.history) break;
    progress = { ...progress, seed: progress.seed + 1 };
    told(progress);
  }
  return progress;
}

/** A history as people read it. */
export function describe(history: History): string {
  const { seed, kind, shape, drift, slowMs, stalls, weather, steps } = history;
  const site = shapes[shape] as { readonly hosts: readonly string[]; readonly witnesses?: readonly string[] };
  let at = 0;
  const lines = steps.map(({ afterMs, what }) => {
    at += afterMs;
    return `  +${(at / 1000).toFixed(3).padStart(7)} s  ${what}`;
  });
  return [
    `history ${seed}: ${kind}, site "${shape}" (${site.hosts.length} hosts, ${site.witnesses?.length ?? 0} witnesses)`,
    `  clocks drift by up to ${drift * 100} %, calls take up to ${2 * slowMs} ms, ${weather}`,
    stalls
      ? `  processes stall with probability ${stalls.chance} for ${stalls.ms[0]} to ${stalls.ms[1]} ms`
      : '  processes do not stall by themselves',
    ...lines,
  ].join('\n');
}
