/** Makes a failing history as small as it can be and still fail in the same way. */
import type { Rules } from '../core/ha/rules.ts';
import type { History, Step } from './history.ts';
import { runHistory, type Verdict } from './run.ts';

/** Most histories that are tried. */
const maxTries = 150;

export interface Shrunk {
  readonly history: History;
  readonly verdict: Verdict;
  readonly tries: number;
}

export async function shrink(
  history: History,
  verdict: Verdict,
  rules?: Rules,
  stop: () => boolean = () => false,
): Promise<Shrunk> {
  const law = verdict.violations[0]?.law;
  let best: Shrunk = { history, verdict, tries: 0 };
  let tries = 0;
  /** True: it fails as before, and is the best now. */
  const keeps = async (candidate: History): Promise<boolean> => {
    if (tries >= maxTries || stop()) return false;
    tries += 1;
    const next = await runHistory(candidate, rules);
    if (next.violations[0]?.law !== law) return false;
    best = { history: candidate, verdict: next, tries };
    return true;
  };
  for (const simpler of simplifications(history)) await keeps({ ...best.history, ...simpler });
  if (best.history.stalls) {
    const { stalls: _stalls, ...still } = best.history;
    await keeps(still);
  }
  // Of a history that must not stop guests at all each step is part of why: without one of them it might.
  if (law === 2) return { ...best, tries };
  for (let size = Math.ceil(history.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    let from = 0;
    while (from < best.history.steps.length)
      if (!(await keeps({ ...best.history, steps: without(best.history.steps, from, size) }))) from += size;
  }
  return { ...best, tries };
}

const simplifications = (history: History): readonly Partial<History>[] => [
  ...(history.drift > 0 ? [{ drift: 0 }] : []),
  ...(history.slowMs > 2 ? [{ slowMs: 2 }] : []),
  ...(history.weather === 'fair-weather' ? [] : [{ weather: 'fair-weather' }]),
];

/** Without some steps; the time that they took stays. */
function without(steps: readonly Step[], from: number, count: number): readonly Step[] {
  const left = steps.slice(from, from + count).reduce((sum, { afterMs }) => sum + afterMs, 0);
  const [next, ...rest] = steps.slice(from + count);
  const later = next ? [{ ...next, afterMs: next.afterMs + left }, ...rest] : [];
  return [...steps.slice(0, from), ...later];
}
