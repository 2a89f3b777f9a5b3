/** Reading whole lists, doing one thing to several objects, and saying what came of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { GuestView, HostView, ImageView, InviteView, NetworkView, TokenView } from '../api/schemas.ts';
import type { Call } from './call.ts';
import { exitCodes, plain, usage } from './failure.ts';
import { counted } from './units.ts';

export interface Lists {
  'guest.list': GuestView;
  'host.list': HostView;
  'image.list': ImageView;
  'network.list': NetworkView;
  'token.list': TokenView;
  'invite.list': InviteView;
}

/** A page's size; the site serves up to 20,000, smaller pages keep answers quick. */
const pageSize = 5000;
const mostPages = 1000;

/** The lists' queries differ only in what they filter by; the site judges those. */
type Untyped = (operation: keyof Lists, options: object) => Promise<unknown>;

/** All pages of a list, and the revision to watch from. */
export async function listAll<O extends keyof Lists>(
  client: Client,
  operation: O,
  query: Readonly<Record<string, string | undefined>> = {},
  signal?: AbortSignal,
): Promise<{ items: Lists[O][]; revision: number }> {
  const items: Lists[O][] = [];
  let cursor: string | undefined;
  let revision: number | undefined;
  for (let page = 0; page < mostPages; page += 1) {
    const answer = (await (client.call as Untyped)(operation, {
      query: { ...query, limit: pageSize, cursor },
      ...(signal ? { signal } : {}),
    })) as { items: Lists[O][]; next?: string; revision: number };
    items.push(...answer.items);
    // The first page's: what changed while later pages were read is then seen again by a watch.
    revision ??= answer.revision;
    cursor = answer.next;
    if (cursor === undefined) break;
  }
  return { items, revision: revision ?? 0 };
}

/** Not `standby`: whoever leads is another one, and the person is told which. */
const worthRepeating = new Set(['site_unreachable', 'not_leading', 'no_majority', 'store_unavailable', 'conflict']);

/**
 * Repeats a request that does no harm twice (it carries an idempotency key, or says what should be) when the connection
 * breaks: up to five times over about 15 s. A site that was never there is not waited for.
 */
export async function repeating<T>(signal: AbortSignal, request: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof VirgaError) || !worthRepeating.has(error.code) || attempt >= 5) throw error;
      const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? '';
      if (attempt === 0 && ['ENOENT', 'ECONNREFUSED', 'EACCES'].includes(code)) throw error;
      if (/CERT|SELF_SIGNED|LEAF_SIGNATURE/.test(code)) throw error;
      await sleep(Math.min(500 * 2 ** attempt, 5000), undefined, { signal });
    }
  }
}

export interface Selection {
  readonly label?: string;
  readonly all?: boolean;
}

/** The guests that are meant: by name, or by --label, or all. */
export async function selectGuests(call: Call<Selection>): Promise<string[]> {
  const { label, all } = call.options;
  const ways = [call.args.length > 0, label !== undefined, all === true].filter(Boolean).length;
  if (ways !== 1) throw usage('say which guests: NAME …, or --label SELECTOR, or --all');
  if (call.args.length > 0) return [...new Set(call.args)];
  const { items } = await listAll(call.client, 'guest.list', { label }, call.io.interrupted);
  return items.map((each) => each.name);
}

export interface Outcome<T> {
  readonly name: string;
  readonly value?: T;
  readonly error?: unknown;
}

const together = 8;

/** Does one thing to each, a few at a time; goes on after an error, so that one does not hold up the others. */
export async function each<T>(names: readonly string[], act: (name: string) => Promise<T>): Promise<Outcome<T>[]> {
  const outcomes: Outcome<T>[] = Array.from({ length: names.length });
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < names.length; index = next++) {
      const name = names[index] ?? '';
      try {
        outcomes[index] = { name, value: await act(name) };
      } catch (error) {
        outcomes[index] = { name, error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(together, names.length) }, worker));
  return outcomes;
}

/**
 * Tells what came of it. One object: its document or its error. Several: an array with `--json`, in which what failed
 * is an `error` body with its name; the exit code is 1 when any failed.
 */
export function report<T>(
  call: Call,
  outcomes: readonly Outcome<T>[],
  words: { readonly kind: string; readonly done: string; readonly say: (outcome: Outcome<T>) => string },
): number {
  const failed = outcomes.filter((each) => each.error !== undefined);
  if (outcomes.length === 1 && failed[0]) throw failed[0].error;
  if (call.io.interrupted.aborted && failed[0]) throw failed[0].error;
  if (outcomes.length === 1) call.out.document(outcomes[0]?.value ?? null);
  else call.out.document(outcomes.map((each) => (each.error === undefined ? each.value : errorDocument(each))));
  for (const outcome of outcomes) {
    if (outcome.error === undefined) call.out.line(words.say(outcome));
    else if (!call.out.json) call.io.stderr.write(`virga: ${plain(errorLine(outcome))}\n`);
  }
  if (outcomes.length > 1)
    call.out.note(
      `${counted(outcomes.length - failed.length, words.kind)} ${words.done}${failed.length > 0 ? `, ${failed.length} not` : ''}`,
    );
  return failed.length > 0 ? exitCodes.refused : exitCodes.ok;
}

function errorDocument(outcome: Outcome<unknown>): object {
  const { error } = outcome;
  if (error instanceof VirgaError) return { name: outcome.name, ...error.toBody() };
  return { name: outcome.name, error: { code: 'internal', message: (error as Error).message, hint: '', values: {} } };
}

function errorLine(outcome: Outcome<unknown>): string {
  const { error } = outcome;
  return `${outcome.name}: ${(error as Error).message}${error instanceof VirgaError && error.hint ? ` (${error.hint})` : ''}`;
}
