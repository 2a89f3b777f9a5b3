/** `virga sim`: what a person sees of a hunt. */
import { readFileSync, writeFileSync } from 'node:fs';
import { VirgaError } from '../core/errors.ts';
import { allRules, without, type Rules } from '../core/ha/rules.ts';
import { shapes, type History, type ShapeName } from './history.ts';
import { describe, hunt, type HuntProgress, type HuntResult } from './hunt.ts';

export interface SimOptions {
  readonly seed: number;
  readonly hours: number;
  readonly shape?: string;
  /** A history that an earlier run wrote. */
  readonly replay?: string;
  /** Rules of the lease to leave out. */
  readonly without: readonly string[];
  readonly json: boolean;
}

const barWidth = 24;
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Exit code 0: no law was violated · 1: one was · 130: interrupted. */
export async function sim(options: SimOptions): Promise<number> {
  const state = { stopped: false };
  const stop = (): void => {
    state.stopped = true;
  };
  process.once('SIGINT', stop);
  const started = performance.now();
  const shown = options.json ? () => {} : progressBar(options.hours, started);
  try {
    const result = await hunt(settingsOf(options), shown, () => state.stopped);
    if (!options.json && process.stdout.isTTY) process.stdout.write('\r\u001B[K');
    if (options.json) say(JSON.stringify(summary(result)));
    else print(result, options, performance.now() - started);
    if (result.failure) return 1;
    return state.stopped ? 130 : 0;
  } finally {
    process.off('SIGINT', stop);
  }
}

function settingsOf({ seed, hours, shape, replay, without: left }: SimOptions): Parameters<typeof hunt>[0] {
  if (shape !== undefined && !(shape in shapes))
    throw new VirgaError('usage', {
      detail: `There is no shape ${shape}; there are ${Object.keys(shapes).join(', ')}`,
    });
  const unknown = left.filter((rule) => !(rule in allRules));
  if (unknown.length > 0)
    throw new VirgaError('usage', {
      detail: `There is no rule ${unknown.join(', ')}; there are ${Object.keys(allRules).join(', ')}`,
    });
  return {
    seed,
    hours,
    ...(shape === undefined ? {} : { shape: shape as ShapeName }),
    ...(replay === undefined ? {} : { history: JSON.parse(readFileSync(replay, 'utf8')) as History }),
    rules: without(...(left as readonly (keyof Rules)[])),
  };
}

const hoursOf = (ms: number): string => (ms / 3_600_000).toFixed(2);

/** One line that is drawn again at most ten times a second; on no terminal one line every ten seconds. */
function progressBar(hours: number, started: number): (progress: HuntProgress) => void {
  const { isTTY } = process.stdout;
  let last = started;
  return ({ histories, simulatedMs, seed }) => {
    const now = performance.now();
    if (now - last < (isTTY ? 100 : 10_000)) return;
    last = now;
    const part = Math.min(1, simulatedMs / (hours * 3_600_000));
    const filled = Math.round(part * barWidth);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}`;
    const rate = histories / ((now - started) / 1000);
    const text = `${bar} ${hoursOf(simulatedMs)} of ${hours} h, ${histories} histories, ${rate.toFixed(0)} a second, seed ${seed}`;
    process.stdout.write(isTTY ? `\r\u001B[K${text}` : `${text}\n`);
  };
}

function print(result: HuntResult, { hours }: SimOptions, ms: number): void {
  const { histories, simulatedMs, seed, failure } = result;
  const rate = (histories / (ms / 1000)).toFixed(1);
  if (!failure) {
    const whole = simulatedMs >= hours * 3_600_000;
    say(`${histories} histories, ${hoursOf(simulatedMs)} simulated hours, ${rate} a second: no law was violated.`);
    if (!whole) say(`Interrupted; go on with: virga sim --seed ${seed} --hours ${hours}`);
    return;
  }
  const file = `virga-sim-${failure.found.seed}.json`;
  writeFileSync(file, `${JSON.stringify(failure.minimal, undefined, 2)}\n`);
  for (const { at, law, text } of failure.verdict.violations.slice(0, 3))
    say(`${law === 0 ? 'Not as it must be' : `Law ${law} is violated`} at ${(at / 1000).toFixed(3)} s: ${text}`);
  say(
    `\nThe shortest history that shows it (of ${failure.found.steps.length} steps, found after ${histories} histories):\n`,
  );
  say(describe(failure.minimal));
  say(`\nIts log:\n\n${failure.log}`);
  say(`Again: virga sim --replay ${file}      as it was found: virga sim --seed ${failure.found.seed}`);
}

function summary({ histories, simulatedMs, seed, failure }: HuntResult): unknown {
  return {
    histories,
    simulatedHours: Number(hoursOf(simulatedMs)),
    seed,
    ...(failure
      ? { violations: failure.verdict.violations, found: failure.found, minimal: failure.minimal, log: failure.log }
      : {}),
  };
}
