/**
 * `virga test`: every check and every test, in the order in which a failure is cheapest to see. Prints one line per file,
 * failures whole, skipped tests with their reasons, and a last line `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run as runTests } from 'node:test';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface TestOptions {
  /** Only what needs neither root nor guests. */
  readonly quick: boolean;
  /** Also the tests that take many minutes. */
  readonly long: boolean;
  /** Only files whose path contains one of these. */
  readonly only: readonly string[];
}

interface Tally {
  passed: number;
  failed: number;
  readonly skipped: string[];
  readonly failures: string[];
}

interface Outcome {
  readonly code: number;
  readonly output: string;
}

/** Runs a tool to its end; its output is kept (bounded by what the tools print) and shown only on failure. */
async function tool(command: string, args: readonly string[], timeoutMs: number): Promise<Outcome> {
  return new Promise((done) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs });
    let output = '';
    const keep = (chunk: Buffer): void => {
      if (output.length < 200_000) output += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => done({ code: 127, output: `${command}: ${error.message}` }));
    child.on('close', (code) => done({ code: code ?? 1, output }));
  });
}

const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const checks: readonly { readonly name: string; readonly command: string; readonly args: readonly string[] }[] = [
  { name: 'types of core (no Node, no packages)', command: bin('tsc'), args: ['-p', 'src/core/tsconfig.json'] },
  { name: 'types', command: bin('tsc'), args: ['-p', 'tsconfig.json'] },
  { name: 'lint', command: bin('oxlint'), args: ['--type-aware'] },
  { name: 'format', command: bin('oxfmt'), args: ['--check', '.'] },
];

async function runChecks(tally: Tally): Promise<void> {
  for (const check of checks) {
    const started = performance.now();
    const { code, output } = await tool(check.command, check.args, 120_000);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (code === 0) {
      tally.passed += 1;
      console.log(`ok    ${check.name} (${seconds} s)`);
    } else {
      tally.failed += 1;
      tally.failures.push(`${check.name}:\n${output}`);
      console.log(`FAIL  ${check.name} (${seconds} s)`);
    }
  }
}

function files(folder: string, only: readonly string[]): string[] {
  return globSync(`test/${folder}/**/*.test.ts`, { cwd: root })
    .filter((path) => only.length === 0 || only.some((part) => path.includes(part)))
    .sort();
}

interface FileTally {
  passed: number;
  failed: number;
  skipped: number;
}

type TestStream = ReturnType<typeof runTests>;
type TestEvent = TestStream extends AsyncIterable<infer E> ? E : never;

/** What one finished test adds to the tally. Suites, files and tests that only hold others are not counted. */
function countPass(
  data: { name: string; file?: string | undefined; skip?: unknown; details: { type?: string | undefined } },
  tally: Tally,
  count: FileTally,
): void {
  if (data.details.type === 'suite' || data.name === data.file) return;
  if (data.skip === undefined || data.skip === false) {
    count.passed += 1;
    tally.passed += 1;
    return;
  }
  count.skipped += 1;
  tally.skipped.push(`${data.name}: ${typeof data.skip === 'string' ? data.skip : 'no reason given'}`);
}

function countFail(
  data: { name: string; file?: string | undefined; details: { error: Error } },
  tally: Tally,
  count: FileTally,
): void {
  const error = data.details.error as Error & { failureType?: string };
  // A file or a suite that fails only because a test in it failed is not counted twice.
  if (error.failureType === 'subtestsFailed') return;
  count.failed += 1;
  tally.failed += 1;
  const cause = error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : error.message;
  const where = relative(root, data.file ?? '?');
  tally.failures.push(`${where}: ${data.name}\n${cause}`);
  console.log(`FAIL  ${where}: ${data.name}`);
}

function printFile(file: string, milliseconds: number, count: FileTally): void {
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
  const mark = count.failed > 0 ? 'FAIL' : 'ok  ';
  const seconds = (milliseconds / 1000).toFixed(1);
  console.log(
    `${mark}  ${relative(root, file)} ${count.passed} passed, ${count.failed} failed${skipped} (${seconds} s)`,
  );
}

/** Runs test files, each in a process of its own; `concurrency` files at once. */
async function runFiles(paths: readonly string[], concurrency: number, timeoutMs: number, tally: Tally): Promise<void> {
  if (paths.length === 0) return;
  const counts = new Map<string, FileTally>();
  const countOf = (file = '?'): FileTally => {
    const known = counts.get(file) ?? { passed: 0, failed: 0, skipped: 0 };
    counts.set(file, known);
    return known;
  };
  const verbose = process.env['VIRGA_TEST_VERBOSE'] !== undefined;
  const stream = runTests({
    files: paths.map((path) => join(root, path)),
    concurrency,
    timeout: timeoutMs,
  });
  for await (const event of stream as AsyncIterable<TestEvent>) {
    if (event.type === 'test:pass') countPass(event.data, tally, countOf(event.data.file));
    else if (event.type === 'test:fail') countFail(event.data, tally, countOf(event.data.file));
    else if (event.type === 'test:stderr' && verbose) process.stderr.write(event.data.message);
    else if (event.type === 'test:stdout' && verbose) process.stdout.write(event.data.message);
    else if (event.type === 'test:summary' && event.data.file !== undefined)
      printFile(event.data.file, event.data.duration_ms, countOf(event.data.file));
  }
}

async function prepare(): Promise<() => Promise<void>> {
  const { ensureUser, installAll } = await import('../src/setup/packages.ts');
  await installAll();
  await ensureUser();
  const { cleanStale } = await import('../src/testbed/index.ts');
  await cleanStale();
  return async () => {
    await cleanStale();
  };
}

/** Runs everything; the result is the process's exit code. */
export async function test(options: TestOptions): Promise<number> {
  const started = performance.now();
  // Random histories of the simulator, and milliseconds after which no further one is begun; see test/sim.
  process.env['VIRGA_SIM_RUNS'] ??= options.long ? '20000' : options.quick ? '300' : '8000';
  process.env['VIRGA_SIM_MS'] ??= options.long ? '1200000' : options.quick ? '15000' : '180000';
  const tally: Tally = { passed: 0, failed: 0, skipped: [], failures: [] };
  const real = !options.quick && process.getuid?.() === 0;
  if (!options.quick && !real) tally.skipped.push('test/real: needs root');
  const finish = real ? await prepare() : undefined;
  try {
    if (options.only.length === 0) await runChecks(tally);
    await runFiles(files('unit', options.only), availableParallelism(), 120_000, tally);
    // Alone: it uses every core.
    await runFiles(files('sim', options.only), 1, 1_800_000, tally);
    // One at a time: they share the machine's two cores, and some measure how soon something happens.
    if (real) await runFiles(files('real', options.only), 1, 480_000, tally);
    if (real && options.long) await runFiles(files('long', options.only), 1, 3_600_000, tally);
  } finally {
    await finish?.();
  }
  for (const failure of tally.failures) console.log(`\n--- ${failure}`);
  if (tally.skipped.length > 0) console.log(`\nSkipped:\n${tally.skipped.map((line) => `  ${line}`).join('\n')}`);
  console.log(`\nin ${((performance.now() - started) / 1000).toFixed(0)} s`);
  const skipped = tally.skipped.length > 0 ? `, ${tally.skipped.length} skipped` : '';
  console.log(`${tally.passed} passed, ${tally.failed} failed${skipped}`);
  return tally.failed === 0 && tally.passed > 0 ? 0 : 1;
}
