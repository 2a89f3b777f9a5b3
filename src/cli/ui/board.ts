/** The live view of hosts and guests: a pure picture of what was observed, and its drawing in place. */
import type { GuestView, HostLeaseView, HostView } from '../../api/schemas.ts';
import type { Io } from '../io.ts';
import { plain } from '../failure.ts';
import { ago, counted, mib, span } from '../units.ts';
import { leaseText } from './lease.ts';
import { noPaint, paintFor, toneOf, type Paint } from './style.ts';
import { cut, pad, table, type Column } from './table.ts';

export interface BoardState {
  readonly site: string;
  /** Milliseconds since 1970; all ages are relative to it. */
  readonly now: number;
  readonly hosts: readonly HostView[];
  readonly guests: readonly GuestView[];
  /** Leases by host, as they were seen last; absent: not known. */
  readonly leases?: ReadonlyMap<string, HostLeaseView>;
  /** The newest last; shown at the bottom. */
  readonly messages?: readonly string[];
  /** Since when the site does not answer: what is shown is as old. */
  readonly brokenSince?: number;
}

/** `████····  40 %` */
function gauge(part: number, width: number): string {
  const bounded = Math.min(1, Math.max(0, part));
  const filled = Math.round(bounded * width);
  return '█'.repeat(filled) + '·'.repeat(width - filled);
}

function hostLine(
  host: HostView,
  guests: number,
  lease: HostLeaseView | undefined,
  width: number,
  paint: Paint,
): string {
  const { state, used, measured, lastHeardAt } = host.status;
  const well = state === 'online' && leaseNote(lease) === '';
  const dot = paint(well ? toneOf(state) : 'bad', state === 'online' ? '●' : '○');
  const cpu = used ? `CPU ${gauge(used.cpuPercent / 100, 10)} ${pad(used.cpuPercent.toFixed(0), 3, true)} %` : '';
  const total = host.spec.capacity?.memoryMiB ?? measured?.memoryMiB ?? 0;
  const memory =
    used && total > 0 ? `memory ${gauge(used.memoryMiB / total, 10)} ${mib(used.memoryMiB)} of ${mib(total)}` : '';
  const life = state === 'online' ? (host.spec.cordoned ? 'cordoned' : '') : `${state}, heard ${ago(lastHeardAt)}`;
  const word = [leaseNote(lease), life].filter((each) => each !== '').join(', ');
  const text = [pad(cut(host.name, 16), 16), pad(counted(guests, 'guest'), 10), cpu, memory, word]
    .filter((each) => each !== '')
    .join('  ');
  return `${dot} ${cut(plain(text), width - 2)}`;
}

/** A lease that is as it should be is not worth a word. */
const leaseNote = (lease: HostLeaseView | undefined): string =>
  lease && ['lapsed', 'sealing', 'lost'].includes(lease.state) ? `lease ${leaseText(lease)}` : '';

function columnsAt(now: number, hostName: (id: string | undefined) => string): Column<GuestView>[] {
  return [
    { title: 'GUEST', value: (guest) => guest.name, tone: 'bold' },
    { title: 'STATE', value: (guest) => guest.status.state, tone: 'state' },
    { title: 'HOST', value: (guest) => hostName(guest.status.placement?.hostId) },
    {
      title: 'ADDRESS',
      value: (guest) => guest.spec.nics.map((nic) => nic.ipv4 ?? nic.ipv6).find((each) => each !== undefined) ?? '-',
    },
    { title: 'CPU', value: (guest) => cpuOf(guest), right: true },
    { title: 'MEMORY', value: (guest) => mib(guest.spec.memoryMiB), right: true },
    { title: 'UP', value: (guest) => upOf(guest, now), right: true },
    { title: 'RESTARTS', value: (guest) => String(guest.status.observed?.restarts ?? 0), right: true },
    { title: 'NOTE', value: noteOf },
  ];
}

const cpuOf = (guest: GuestView): string => {
  const percent = guest.status.observed?.cpuPercent;
  return percent === undefined || guest.status.state !== 'running' ? '-' : `${percent.toFixed(0)} %`;
};
const upOf = (guest: GuestView, now: number): string => {
  const started = guest.status.observed?.since?.startedAt;
  return started === undefined || guest.status.state !== 'running' ? '-' : span(now - Date.parse(started));
};
function noteOf(guest: GuestView): string {
  const { preparing, error } = guest.status.observed ?? {};
  if (guest.spec.held) return `held: ${guest.spec.held.reason}`;
  if (guest.status.observed?.frozen === true) return 'frozen with the lease of its host';
  if (guest.status.exhausted) return `given up after too many ${guest.status.exhausted.what}`;
  if (preparing && guest.status.state === 'starting')
    return `${preparing.what} ${Math.round(preparing.progress * 100)} %`;
  return guest.status.stateReason ?? error?.message ?? guest.status.waits ?? guest.status.unplaced?.[0] ?? '';
}

/** States that want attention first; then by name. */
const order = ['failed', 'unknown', 'pending', 'starting', 'stopping', 'deleting', 'paused', 'running', 'stopped'];
const byUrgency = (a: GuestView, b: GuestView): number =>
  order.indexOf(a.status.state) - order.indexOf(b.status.state) ||
  a.name.localeCompare(b.name, 'en', { numeric: true });

/**
 * The lines of the board, none wider than `width` columns. Pure: the same state gives the same lines.
 * @param height - lines at most; guests that do not fit are counted in the last line.
 */
export function renderBoard(
  state: BoardState,
  width: number,
  paint: Paint = noPaint,
  height = Number.POSITIVE_INFINITY,
): string[] {
  const placed = new Map<string, number>();
  for (const guest of state.guests) {
    const id = guest.status.placement?.hostId;
    if (id !== undefined) placed.set(id, (placed.get(id) ?? 0) + 1);
  }
  const names = new Map(state.hosts.map((host) => [host.id, host.name]));
  const running = state.guests.filter((guest) => guest.status.state === 'running').length;
  const head = `${plain(state.site)}  ${counted(state.hosts.length, 'host')}, ${running} of ${counted(state.guests.length, 'guest')} running  ${new Date(state.now).toISOString().slice(11, 19)} UTC`;
  const lines = [paint('bold', cut(head, width))];
  if (state.brokenSince !== undefined)
    lines.push(
      paint(
        'bad',
        cut(`The site does not answer for ${span(state.now - state.brokenSince)}; below is what was seen last.`, width),
      ),
    );
  lines.push('');
  const hosts = [...state.hosts].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const messages = (state.messages ?? []).slice(-3).map((each) => paint('dim', cut(plain(each), width)));
  const room = height - lines.length - messages.length - (messages.length > 0 ? 1 : 0);
  const hostRoom = Math.min(hosts.length, Math.max(1, Math.floor(room / 2)));
  lines.push(
    ...hosts
      .slice(0, hostRoom)
      .map((host) => hostLine(host, placed.get(host.id) ?? 0, state.leases?.get(host.id), width, paint)),
  );
  if (hostRoom < hosts.length)
    lines.push(paint('dim', cut(`… ${counted(hosts.length - hostRoom, 'host')} more`, width)));
  lines.push('');
  lines.push(
    ...guestLines(state, (id) => names.get(id ?? '') ?? '-', width, paint, height - lines.length - messages.length - 1),
  );
  if (messages.length > 0) lines.push('', ...messages);
  return lines;
}

function guestLines(
  state: BoardState,
  hostName: (id: string | undefined) => string,
  width: number,
  paint: Paint,
  room: number,
): string[] {
  if (state.guests.length === 0) return [paint('dim', cut('No guests.', width))];
  const sorted = [...state.guests].sort(byUrgency);
  const fits = Math.max(1, room - 2);
  const shown = sorted.length <= fits + 1 ? sorted : sorted.slice(0, fits);
  const lines = table(columnsAt(state.now, hostName), shown, { width, paint });
  const rest = sorted.length - shown.length;
  return rest > 0 ? [...lines, paint('dim', cut(`… ${counted(rest, 'guest')} more`, width))] : lines;
}

/** Draws boards over one another; leaves the last one standing. */
export class LiveBoard {
  readonly #io: Io;
  readonly #paint: Paint;
  #height = 0;

  constructor(io: Io) {
    this.#io = io;
    this.#paint = paintFor(io, io.stdout);
  }

  /** True on a terminal; elsewhere nothing is drawn in place, and `draw` does nothing. */
  get live(): boolean {
    return this.#io.stdout.isTTY === true;
  }

  draw(state: BoardState): void {
    if (!this.live) return;
    const { stdout } = this.#io;
    const lines = renderBoard(state, stdout.columns ?? 80, this.#paint, (stdout.rows ?? 24) - 1);
    const up = this.#height > 0 ? `\u001b[${this.#height}A\r` : '';
    // Each line clears its own rest, so that nothing flickers; what is left below is cleared at the end.
    stdout.write(`\u001b[?25l${up}${lines.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`);
    this.#height = lines.length;
  }

  /** Gives the cursor back. The last board stays on the screen. */
  close(): void {
    if (this.live && this.#height > 0) this.#io.stdout.write('\u001b[?25h');
    this.#height = 0;
  }
}
