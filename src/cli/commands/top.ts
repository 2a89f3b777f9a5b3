/** `virga top`: hosts and guests as they are, redrawn when something changes. */
import type { Command } from 'commander';
import { VirgaError } from '../../api/errors.ts';
import type { GuestView, HostLeaseView, HostView } from '../../api/schemas.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { isAway } from '../failure.ts';
import { pause } from '../io.ts';
import { readLeases } from '../leases.ts';
import { listAll } from '../lists.ts';
import { LiveBoard, renderBoard, type BoardState } from '../ui/board.ts';
import { watch } from '../watch.ts';

/** The site's hosts and guests, kept as they are by watching. */
export class LiveSite {
  readonly #call: Pick<Call, 'client' | 'io'>;
  readonly #hosts = new Map<string, HostView>();
  readonly #guests = new Map<string, GuestView>();
  #leases: ReadonlyMap<string, HostLeaseView> = new Map();
  #site = '';
  #brokenSince: number | undefined;

  constructor(call: Pick<Call, 'client' | 'io'>) {
    this.#call = call;
  }

  get state(): BoardState {
    return {
      site: this.#site,
      now: Date.now(),
      hosts: [...this.#hosts.values()],
      guests: [...this.#guests.values()],
      leases: this.#leases,
      ...(this.#brokenSince === undefined ? {} : { brokenSince: this.#brokenSince }),
    };
  }

  /** Reads everything; gives the revision to watch from. */
  async read(signal: AbortSignal): Promise<number> {
    const { client } = this.#call;
    const status = await client.call('site.status', { signal });
    const [hosts, guests] = await Promise.all([
      listAll(client, 'host.list', {}, signal),
      listAll(client, 'guest.list', {}, signal),
    ]);
    this.#site = status.name;
    this.#hosts.clear();
    this.#guests.clear();
    for (const host of hosts.items) this.#hosts.set(host.id, host);
    for (const guest of guests.items) this.#guests.set(guest.id, guest);
    await this.#readLeases(signal);
    this.#brokenSince = undefined;
    return Math.min(hosts.revision, guests.revision);
  }

  async #readLeases(signal: AbortSignal): Promise<void> {
    const { leases } = await readLeases({ client: this.#call.client, look: { signal } });
    this.#leases = new Map((leases?.hosts ?? []).map((each) => [each.hostId, each] as const));
  }

  /** Leases are in no document, so they are asked for again and again. */
  async #followLeases(signal: AbortSignal): Promise<void> {
    for (;;) {
      await pause(leaseMs, signal);
      await this.#readLeases(signal).catch((error: unknown) => {
        if (signal.aborted || !(error instanceof VirgaError)) throw error;
        this.#leases = new Map();
      });
    }
  }

  /** Follows changes until the signal; a site that is away is waited for. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.race([this.#followChanges(signal), this.#followLeases(signal)]);
  }

  async #followChanges(signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        const since = await this.read(signal);
        for await (const sight of watch(this.#call.client, { kinds: 'guest,host', since, signal, patienceMs: 1000 })) {
          if (sight.what === 'again') break;
          if (sight.what === 'gone') {
            this.#hosts.delete(sight.id);
            this.#guests.delete(sight.id);
          } else if (sight.document.kind === 'host') this.#hosts.set(sight.document.id, sight.document);
          else if (sight.document.kind === 'guest') this.#guests.set(sight.document.id, sight.document);
        }
      } catch (error) {
        if (signal.aborted || !isAway(error)) throw error;
        this.#brokenSince ??= Date.now();
      }
      await pause(1000, signal);
    }
  }
}

const redrawMs = 500;
const leaseMs = 1000;

async function top(call: Call<{ readonly once?: boolean }>): Promise<void> {
  const site = new LiveSite(call);
  const signal = call.io.interrupted;
  // The first reading tells at once when there is no site.
  await site.read(signal);
  const board = new LiveBoard(call.io);
  if (call.out.json) {
    const { hosts, guests, leases } = site.state;
    return call.out.document({ hosts, guests, leases: [...(leases?.values() ?? [])] });
  }
  if (!board.live || call.options.once === true)
    return call.out.lines(renderBoard(site.state, call.out.width ?? 100, call.out.paint));
  const ended = new AbortController();
  const following = site.follow(AbortSignal.any([signal, ended.signal]));
  try {
    await Promise.race([following, drawing(site, board, signal)]);
  } finally {
    ended.abort();
    board.close();
    await following.catch(() => undefined);
  }
}

async function drawing(site: LiveSite, board: LiveBoard, signal: AbortSignal): Promise<void> {
  for (;;) {
    board.draw(site.state);
    await pause(redrawMs, signal);
  }
}

export function topCommand(program: Command, shell: Shell): void {
  leaf<{ readonly once?: boolean }>(program, shell, {
    syntax: 'top',
    summary: 'Watch hosts and guests live',
    detail: 'What needs attention stands first. Leave with Ctrl-C.',
    manner: 'look',
    options: (command) => command.option('--once', 'one picture, not live'),
    examples: ['top', 'top --once'],
    run: top,
  });
}
