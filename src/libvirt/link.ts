import { Connection, type ConnectionOptions } from './connection.ts';
import { withDeadline, type CallOptions } from './deadline.ts';
import { LibvirtError } from './errors.ts';
import type { CallRest, CallArgs, CallResult, ProcedureName } from './procedures.ts';

/** Waiting times between attempts to connect. */
export interface BackOff {
  /** Before the second attempt, in ms (default 100); doubled after each failure. */
  readonly firstMs?: number;
  /** At most, in ms (default 10 000). */
  readonly maxMs?: number;
  /** A number in [0, 1): the share of the second half of each wait that is spent (default `Math.random`). */
  readonly random?: () => number;
}

/** How a link connects and whom it tells. */
export interface LinkOptions {
  /** Settings of the next connection; asked anew at each attempt, since sockets come and go. */
  readonly connection: () => ConnectionOptions;
  /** Bound of a call that names none, in ms. */
  readonly callTimeoutMs: number;
  readonly backOff?: BackOff;
  /** Whether it connects by itself, first and after each loss; otherwise when a call needs it. */
  readonly eager: boolean;
  /** Completes a new connection before anybody may use it. */
  readonly prepare?: (connection: Connection) => Promise<void>;
  readonly onUp?: () => void;
  readonly onDown?: (reason: LibvirtError) => void;
}

/** A connection that comes back. Calls are never repeated: only their caller knows whether that is harmless. */
export class Link {
  readonly #options: LinkOptions;
  #connection: Connection | undefined;
  #attempt: Promise<Connection> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #retryAt = 0;
  #lastError: LibvirtError | undefined;
  #closed = false;
  /** A connection that nobody may use yet. */
  #unready: Connection | undefined;
  readonly #stop = new AbortController();

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** The connection, where there is one now. */
  get current(): Connection | undefined {
    return this.#connection;
  }

  /** Waits for the attempt to connect that is under way, or begins one. @throws LibvirtError */
  connect(): Promise<Connection> {
    if (this.#closed) return Promise.reject(new LibvirtError('closed', 'the client is closed'));
    if (this.#connection !== undefined) return Promise.resolve(this.#connection);
    if (this.#attempt !== undefined) return this.#attempt;
    if (this.#retryAt > performance.now()) {
      const message = `no connection, next attempt soon: ${this.#lastError?.message ?? ''}`;
      return Promise.reject(new LibvirtError('connect', message, { cause: this.#lastError }));
    }
    this.#attempt = this.#open().finally(() => {
      this.#attempt = undefined;
    });
    return this.#attempt;
  }

  /** Calls a procedure; while the link is down it fails at once, with the reason as the cause. */
  async call<N extends ProcedureName>(name: N, ...rest: CallRest<N>): Promise<CallResult<N>> {
    const open = this.#connection;
    if (open !== undefined) return open.call(name, ...rest);
    const [args, options = {}] = rest as [CallArgs<N>, CallOptions | undefined];
    const { timeoutMs = this.#options.callTimeoutMs, signal } = options;
    const started = performance.now();
    const connection = await withDeadline(name, this.connect(), timeoutMs, signal);
    const left = Math.max(1, timeoutMs - (performance.now() - started));
    const limits: CallOptions = { timeoutMs: left, ...(signal && { signal }) };
    return connection.call(name, ...([args, limits] as CallRest<N>));
  }

  async #open(): Promise<Connection> {
    try {
      const connection = await Connection.open({ ...this.#options.connection(), signal: this.#stop.signal });
      await this.#adopt(connection);
      return connection;
    } catch (cause) {
      const error = cause instanceof LibvirtError ? cause : new LibvirtError('connect', String(cause), { cause });
      this.#failed(error);
      throw error;
    }
  }

  async #adopt(connection: Connection): Promise<void> {
    this.#unready = connection;
    try {
      await this.#options.prepare?.(connection);
    } catch (error) {
      connection.destroy(new LibvirtError('closed', 'the connection could not be prepared', { cause: error }));
      throw error;
    } finally {
      this.#unready = undefined;
    }
    if (this.#closed || !connection.isOpen) {
      await connection.close();
      throw await connection.ended;
    }
    this.#connection = connection;
    this.#failures = 0;
    this.#retryAt = 0;
    void connection.ended.then((reason) => this.#lost(reason));
    this.#options.onUp?.();
  }

  #lost(reason: LibvirtError): void {
    this.#connection = undefined;
    this.#lastError = reason;
    if (this.#closed) return;
    this.#options.onDown?.(reason);
    this.#scheduleRetry();
  }

  #failed(error: LibvirtError): void {
    this.#lastError = error;
    this.#failures += 1;
    if (this.#closed) return;
    this.#options.onDown?.(error);
    this.#scheduleRetry();
  }

  #scheduleRetry(): void {
    const { firstMs = 100, maxMs = 10_000, random = Math.random } = this.#options.backOff ?? {};
    // Half of the wait is fixed, half is chance: many clients of one daemon must not come back in step.
    const wait = Math.min(maxMs, firstMs * 2 ** Math.min(Math.max(0, this.#failures - 1), 30));
    const waitMs = wait / 2 + (wait / 2) * random();
    // After a mere loss a call may try at once; only after a failed attempt is it told to wait.
    this.#retryAt = this.#failures > 0 ? performance.now() + waitMs : 0;
    if (!this.#options.eager) return;
    this.#timer = setTimeout(() => {
      this.#retryAt = 0;
      // A failure is told through onDown, and schedules the next attempt.
      this.connect().catch(() => undefined);
    }, waitMs);
  }

  /** Forgets failures: there is reason to believe that the next attempt succeeds. */
  encourage(): void {
    this.#failures = 0;
    this.#retryAt = 0;
  }

  /** Ends the link for good, in order. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const reason = new LibvirtError('closed', 'the client was closed');
    this.#stop.abort(reason);
    this.#unready?.destroy(reason);
    await this.#attempt?.catch(() => undefined);
    await this.#connection?.close();
  }
}
