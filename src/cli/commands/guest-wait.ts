/** `guest wait`, and the waiting of other commands: by watching, not by asking again and again. */
import { InvalidArgumentError, type Command } from 'commander';
import { VirgaError } from '../../api/errors.ts';
import type { GuestView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { exitCodes, timedOut } from '../failure.ts';
import { selectGuests, type Selection } from '../lists.ts';
import { StatusLine } from '../ui/progress.ts';
import { parseSeconds } from '../units.ts';
import { until, type Sight } from '../watch.ts';

const states = ['pending', 'starting', 'running', 'paused', 'stopping', 'stopped', 'failed', 'unknown'] as const;
export type Awaited = (typeof states)[number] | 'deleted';

/** A signal that also ends after `seconds`. */
export function deadline(signal: AbortSignal, seconds: number): { signal: AbortSignal; passed: () => boolean } {
  const timer = AbortSignal.timeout(Math.max(1, Math.round(seconds * 1000)));
  return { signal: AbortSignal.any([signal, timer]), passed: () => timer.aborted && !signal.aborted };
}

/** What is still missing: each guest by id, with its last seen state. */
class Missing {
  readonly #want: Awaited;
  readonly #last = new Map<string, GuestView>();
  readonly #open = new Set<string>();

  constructor(want: Awaited) {
    this.#want = want;
  }

  add(guest: GuestView): void {
    this.#last.set(guest.id, guest);
    this.#open.add(guest.id);
  }

  /** True when something that was waited for changed. */
  see(sight: Sight): boolean {
    if (sight.what === 'gone') return this.#gone(sight.id);
    if (sight.what !== 'is' || sight.document.kind !== 'guest' || !this.#last.has(sight.document.id)) return false;
    const guest = sight.document;
    this.#last.set(guest.id, guest);
    const { state } = guest.status;
    if (state === this.#want) this.#open.delete(guest.id);
    // Going back out of the wanted state (a guest that crashes while others start) opens it again.
    else if (this.#want !== 'deleted') this.#open.add(guest.id);
    if (state === 'failed' && this.#want === 'running')
      throw new VirgaError('not_ready', {
        kind: 'guest',
        name: guest.name,
        state: `failed (${guest.status.stateReason ?? 'no reason given'})`,
      });
    return true;
  }

  #gone(id: string): boolean {
    const guest = this.#last.get(id);
    if (!guest) return false;
    this.#open.delete(id);
    if (this.#want !== 'deleted') throw new VirgaError('not_found', { kind: 'guest', name: guest.name });
    return true;
  }

  get done(): boolean {
    return this.#open.size === 0;
  }
  get all(): GuestView[] {
    return [...this.#last.values()];
  }
  /** `2 of 3 running; web-3 is starting (fetching the image)`. */
  get sentence(): string {
    const total = this.#last.size;
    const [first] = [...this.#open].map((id) => this.#last.get(id));
    const head = `${total - this.#open.size} of ${total} ${this.#want}`;
    if (!first) return head;
    const why = first.status.observed?.preparing?.what ?? first.status.stateReason;
    return `${head}; ${first.name} is ${first.status.state}${why === undefined ? '' : ` (${why})`}`;
  }
}

/** Waits until all are in the state; throws a `Failure` (exit 4) when the time is over. */
export async function waitForGuests(
  call: Call,
  names: readonly string[],
  want: Awaited,
  seconds: number,
): Promise<GuestView[]> {
  const { client, io } = call;
  const limit = deadline(io.interrupted, seconds);
  const line = new StatusLine(io, call.out.json || call.out.quiet);
  let missing = new Missing(want);
  const read = async (): Promise<{ seen: GuestView[]; revision: number }> => {
    const { revision } = await client.call('site.status', { signal: limit.signal });
    const before = missing.all;
    missing = new Missing(want);
    const seen: GuestView[] = [];
    for (const name of before.length > 0 ? before.map((each) => each.id) : names) {
      const guest = await showOrGone(call, name, want, limit.signal);
      if (!guest) continue;
      missing.add(guest);
      seen.push(guest);
    }
    return { seen, revision };
  };
  try {
    await until(
      client,
      'guest',
      read,
      (sight) => {
        if (missing.see(sight)) line.show(missing.sentence);
        return missing.done ? true : undefined;
      },
      limit.signal,
      () => (missing.done ? true : undefined),
    );
    return missing.all;
  } catch (error) {
    if (limit.passed()) throw timedOut(`waiting for ${missing.sentence || names.join(', ')}`, seconds);
    throw error;
  } finally {
    line.clear();
  }
}

async function showOrGone(
  call: Call,
  guest: string,
  want: Awaited,
  signal: AbortSignal,
): Promise<GuestView | undefined> {
  try {
    return await call.client.call('guest.show', { params: { guest }, signal });
  } catch (error) {
    if (want === 'deleted' && error instanceof VirgaError && error.code === 'not_found') return undefined;
    throw error;
  }
}

interface WaitOptions extends Selection {
  readonly for?: Awaited;
  readonly timeout?: number;
}

async function wait(call: Call<WaitOptions>): Promise<number> {
  const names = await selectGuests(call);
  const want = call.options.for ?? 'running';
  const guests = await waitForGuests(call, names, want, call.options.timeout ?? 60);
  call.out.document(guests);
  for (const name of names) call.out.line(`${name} ${want === 'deleted' ? 'is gone' : `is ${want}`}`);
  return exitCodes.ok;
}

function parseState(text: string): Awaited {
  if (text === 'deleted') return text;
  const found = states.find((each) => each === text);
  if (found === undefined) throw new InvalidArgumentError(`It must be one of ${states.join(', ')} or deleted.`);
  return found;
}

export function waitCommand(guest: Command, shell: Shell): void {
  leaf<WaitOptions>(guest, shell, {
    syntax: 'wait [name...]',
    summary: 'Wait until guests are in a state',
    detail: 'Exit code 4 when the time is over. "deleted" waits until nothing is left of them.',
    manner: 'look',
    options: (command) =>
      command
        .option('--for <state>', 'default running', parseState)
        .option('--timeout <duration>', 'default 60s', parseSeconds)
        .option('-l, --label <selector>', 'all with these labels')
        .option('--all', 'all guests'),
    examples: [
      'guest wait web-1 web-2',
      'guest wait web-1 --for stopped --timeout 2m',
      'guest wait -l job=42 --for deleted',
    ],
    run: wait,
  });
}
