/** One core's share of the random histories: every `step`-th seed from `first` on, until told or timed to stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { historyOf } from '../../src/sim/history.ts';
import { runHistory } from '../../src/sim/run.ts';

interface Share {
  readonly first: number;
  readonly last: number;
  readonly step: number;
  /** Milliseconds after which no further history is begun. */
  readonly forMs: number;
}

export interface ShareResult {
  readonly histories: number;
  readonly simulatedMs: number;
  /** Seeds that violated something, with what; the first ten. */
  readonly failures: readonly { readonly seed: number; readonly text: string }[];
}

const { first, last, step, forMs } = workerData as Share;
const started = performance.now();
const failures: { seed: number; text: string }[] = [];
let histories = 0;
let simulatedMs = 0;
for (let seed = first; seed <= last && failures.length < 10; seed += step) {
  if (performance.now() - started > forMs) break;
  const { violations, ms } = await runHistory(historyOf(seed));
  histories += 1;
  simulatedMs += ms;
  const [worst] = violations;
  if (worst) failures.push({ seed, text: `law ${worst.law} at ${Math.round(worst.at)} ms: ${worst.text}` });
}
parentPort?.postMessage({ histories, simulatedMs, failures } satisfies ShareResult);
