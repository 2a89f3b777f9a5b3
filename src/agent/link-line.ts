/** One connection to one controller, dialled again for as long as it is wanted. */
import { WebSocket } from 'ws';
import { maxMessageBytes, type ToAgent, type ToController } from '../api/link.ts';
import type { Clock, Log } from '../ports.ts';
import { parseToAgent } from './link-messages.ts';
import { webSocket, type Credentials } from './tls.ts';

/** The controller pings every ten seconds; a line without a sign of life for so long is given up. */
const silentMs = 35_000;
const firstRetryMs = 250;
const maxRetryMs = 3000;
/** A controller that refused us is asked again, but seldom: only a change on one side helps. */
const refusedRetryMs = 60_000;
/** Another address of a controller that is connected already is looked at again after this. */
const coveredRetryMs = 2000;
/** A controller on the site's network answers within this, or its machine is gone. */
const handshakeTimeout = 4000;

export interface LineOptions {
  readonly url: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly credentials: () => Credentials;
  readonly opened: (line: Line) => void;
  readonly message: (line: Line, message: ToAgent) => void;
  readonly ended: (line: Line, why: { readonly code: number; readonly detail: string }) => void;
  /** True: the same controller is connected under another address. */
  readonly covered: (line: Line) => boolean;
}

export class Line {
  readonly url: string;
  /** What the controller last said of itself; `open`: nothing yet. */
  state: 'down' | 'open' | 'standby' | 'welcomed' = 'down';
  /** Number of the epoch under which it welcomed us. */
  epoch = 0;
  /** Known from the first answer on, also while the line is down. */
  controllerId: string | undefined;
  readonly #options: LineOptions;
  #socket: WebSocket | undefined;
  #failures = 0;
  #refused = false;
  #timer: NodeJS.Timeout | undefined;
  #watch: NodeJS.Timeout | undefined;
  #heardAt = 0;
  #closed = false;

  constructor(options: LineOptions) {
    this.url = options.url;
    this.#options = options;
  }

  get failures(): number {
    return this.#failures;
  }

  /** Bytes that the system has not taken yet. */
  get waitingBytes(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  dial(): void {
    clearTimeout(this.#timer);
    if (this.#closed || this.#socket) return;
    if (this.#options.covered(this)) return this.#later(coveredRetryMs);
    const limits = { handshakeTimeout, maxPayload: maxMessageBytes };
    const socket = webSocket({ ...this.#options.credentials(), url: this.url }, '/agent/v1/link', limits);
    this.#socket = socket;
    this.#refused = false;
    socket.on('open', () => this.#opened());
    socket.on('message', (data, binary) => this.#receive(data as Buffer, binary));
    socket.on('ping', () => this.#heard());
    socket.on('error', (error) => this.#options.log.debug('the link failed', { url: this.url, detail: error.message }));
    socket.once('close', (code, reason) => this.#ended(code, reason.toString()));
  }

  /** It greeted us: the next failure is a new story. */
  greeted(): void {
    this.#failures = 0;
  }

  /** It will not have us for a while; the line is not dialled again soon. */
  refused(): void {
    this.#refused = true;
  }

  write(message: ToController, sent?: () => void): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message), () => sent?.());
  }

  /** Ends this connection; it is dialled again. */
  drop(reason: string): void {
    this.#socket?.close(1008, reason);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    const socket = this.#socket;
    socket?.close(1000, 'the agent stops');
    setTimeout(() => socket?.terminate(), 1000).unref();
  }

  #opened(): void {
    this.#heard();
    this.state = 'open';
    this.#watch = setInterval(() => {
      if (this.#options.clock.monotonic() - this.#heardAt > silentMs) this.#socket?.terminate();
    }, 5000);
    this.#options.opened(this);
  }

  #heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }

  #receive(data: Buffer, binary: boolean): void {
    this.#heard();
    const parsed = binary ? undefined : parseToAgent(data.toString('utf8'));
    if (!parsed) return;
    if (parsed.ok) this.#options.message(this, parsed.message);
    else this.#options.log.warn('a message of the controller is malformed', { detail: parsed.problem });
  }

  #ended(code: number, detail: string): void {
    clearInterval(this.#watch);
    this.#socket = undefined;
    this.#options.ended(this, { code, detail });
    this.state = 'down';
    if (this.#closed) return;
    const backOff = Math.min(maxRetryMs, firstRetryMs * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    // Between half and the whole of it, so that a thousand agents do not come back in one instant.
    this.#later((this.#refused ? refusedRetryMs : backOff) * (0.5 + this.#options.random() / 2));
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => this.dial(), ms);
  }
}
