import { Connection, type ConnectionOptions } from './connection.ts';
import type { CallOptions } from './deadline.ts';
import { LibvirtError } from './errors.ts';
import { EventHub, type EventHandler } from './event-hub.ts';
import type { EventName } from './events.ts';
import { Link, type BackOff } from './link.ts';
import type { CallArgs, CallRest, CallResult, ProcedureName, StreamName } from './procedures.ts';
import { findSocket, parseUri, type LibvirtUri, type SocketSearch } from './sockets.ts';
import type { LibvirtStream, StreamOptions } from './streams.ts';

/** Whom to talk to, and the bounds. */
export interface ClientOptions extends SocketSearch {
  /** Default `qemu:///system`. `?socket=PATH` and `?mode=direct|legacy` are understood. */
  readonly uri?: string;
  /** Path of the daemon's socket; otherwise found by the URI. */
  readonly socket?: string;
  readonly connectTimeoutMs?: number;
  /** Bound of a call on the control connection that names none (default 30 s). */
  readonly callTimeoutMs?: number;
  /** Bound of a slow job that names none (default 5 min). */
  readonly slowTimeoutMs?: number;
  /** See `ConnectionOptions`. */
  readonly keepaliveMs?: number;
  readonly maxInFlight?: number;
  readonly maxQueued?: number;
  /** Most streams at a time (default 64); each has a connection of its own. */
  readonly maxStreams?: number;
  readonly backOff?: BackOff;
  /** Receives what an event or state handler threw (default: thrown again outside, which ends the process). */
  readonly onHandlerError?: (error: unknown, event: EventName | 'state') => void;
}

/** Whether the control connection stands, and since the last change why not. */
export type LinkState =
  | { readonly state: 'up' }
  | { readonly state: 'down'; readonly reason: LibvirtError | undefined };

function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/**
 * The connections of one client: one for control and events, one for slow jobs, and one for each stream, so that
 * none of them holds up another (libvirtd serves five requests of a connection at a time). The control connection is
 * made again whenever it is lost, and the events are subscribed again before the state becomes `up`.
 */
export class LibvirtSession {
  /** For jobs that take seconds (start, destroy, snapshots): connects when first used. */
  readonly slow: Link;
  protected readonly control: Link;
  readonly #options: ClientOptions;
  readonly #uri: LibvirtUri;
  readonly #hub: EventHub;
  readonly #streams = new Set<LibvirtStream>();
  readonly #stateHandlers = new Set<(state: LinkState) => void>();
  #openingStreams = 0;
  #closed = false;
  #state: LinkState = { state: 'down', reason: undefined };

  /** Begins to connect, and goes on trying; `ready` waits for it. @throws LibvirtError (argument) for a bad URI */
  constructor(options: ClientOptions = {}) {
    this.#options = options;
    this.#uri = parseUri(options.uri ?? 'qemu:///system');
    this.#hub = new EventHub(options.onHandlerError ?? rethrow);
    const backOff = options.backOff ?? {};
    this.control = new Link({
      eager: true,
      backOff,
      callTimeoutMs: options.callTimeoutMs ?? 30_000,
      connection: () => ({
        ...this.#settings(),
        callTimeoutMs: options.callTimeoutMs ?? 30_000,
        onMessage: (frame) => this.#hub.dispatch(frame),
      }),
      prepare: (connection) => this.#hub.attach(connection),
      onUp: () => {
        this.slow.encourage();
        this.#become({ state: 'up' });
      },
      onDown: (reason) => {
        this.#hub.detach();
        this.#become({ state: 'down', reason });
      },
    });
    this.slow = new Link({
      eager: false,
      backOff,
      callTimeoutMs: options.slowTimeoutMs ?? 300_000,
      connection: () => ({ ...this.#settings(), callTimeoutMs: options.slowTimeoutMs ?? 300_000 }),
    });
    // The outcome is told by the state, and to those who wait in `ready`.
    this.control.connect().catch(() => undefined);
  }

  #settings(): ConnectionOptions {
    const { socket, readonly, connectTimeoutMs, keepaliveMs, maxInFlight, maxQueued } = this.#options;
    return {
      path: socket ?? findSocket(this.#uri, this.#options),
      uri: this.#uri.openName,
      ...(readonly !== undefined && { readonly }),
      ...(connectTimeoutMs !== undefined && { connectTimeoutMs }),
      ...(keepaliveMs !== undefined && { keepaliveMs }),
      ...(maxInFlight !== undefined && { maxInFlight }),
      ...(maxQueued !== undefined && { maxQueued }),
    };
  }

  /** Waits for the attempt to connect that is under way. @throws LibvirtError */
  async ready(): Promise<void> {
    await this.control.connect();
  }

  get state(): LinkState {
    return this.#state;
  }

  /**
   * Calls a procedure on the control connection by libvirt's name: `client.call('domainGetState', { dom })`.
   * While the daemon is away it fails at once. @throws LibvirtError
   */
  call<N extends ProcedureName>(name: N, ...rest: CallRest<N>): Promise<CallResult<N>> {
    return this.control.call(name, ...rest);
  }

  /**
   * Subscribes to an event, of all domains; resolves when the daemon sends it. Survives reconnection, but what
   * happened meanwhile was not seen: look at everything again when the state becomes `up`.
   * @returns disposing it unsubscribes (`using subscription = …` or `subscription[Symbol.dispose]()`).
   */
  async on<N extends EventName>(name: N, handler: EventHandler<N>): Promise<Disposable> {
    return { [Symbol.dispose]: await this.#hub.add(name, handler) };
  }

  /** Tells every later change between up and down. */
  onState(handler: (state: LinkState) => void): Disposable {
    this.#stateHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#stateHandlers.delete(handler) };
  }

  #become(state: LinkState): void {
    const changed = state.state !== this.#state.state;
    this.#state = state;
    if (!changed) return;
    for (const handler of this.#stateHandlers) {
      try {
        handler(state);
      } catch (error) {
        (this.#options.onHandlerError ?? rethrow)(error, 'state');
      }
    }
  }

  /**
   * Calls a procedure that opens a stream, on a connection of its own that ends with the stream.
   * @throws LibvirtError; kind `busy` where too many streams are open
   */
  async openStream<N extends StreamName>(
    name: N,
    args: CallArgs<N>,
    options: CallOptions & StreamOptions = {},
  ): Promise<{ stream: LibvirtStream; result: CallResult<N> }> {
    const { maxStreams = 64 } = this.#options;
    if (this.#closed) throw new LibvirtError('closed', `${name}: the client is closed`, { procedure: name });
    if (this.#streams.size + this.#openingStreams >= maxStreams) {
      throw new LibvirtError('busy', `${name}: ${maxStreams} streams are open already`, { procedure: name });
    }
    this.#openingStreams += 1;
    try {
      // Not pinged: the daemon would take a stream whose reader is slow for dead.
      const connection = await Connection.open({ ...this.#settings(), keepaliveMs: 0, ...pick(options) });
      return await this.#streamOn(connection, name, args, options);
    } finally {
      this.#openingStreams -= 1;
    }
  }

  async #streamOn<N extends StreamName>(
    connection: Connection,
    name: N,
    args: CallArgs<N>,
    options: CallOptions & StreamOptions,
  ): Promise<{ stream: LibvirtStream; result: CallResult<N> }> {
    try {
      const opened = await connection.openStream(name, args, options);
      this.#streams.add(opened.stream);
      opened.stream.once('close', () => {
        this.#streams.delete(opened.stream);
        void connection.close();
      });
      if (this.#closed) opened.stream.destroy(new LibvirtError('closed', 'the client was closed'));
      return opened;
    } catch (error) {
      connection.destroy(new LibvirtError('closed', 'the stream could not be opened', { cause: error }));
      throw error;
    }
  }

  /** Ends everything in order; streams still open are aborted. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const stream of this.#streams) stream.destroy(new LibvirtError('closed', 'the client was closed'));
    await Promise.all([this.control.close(), this.slow.close()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function pick({ signal }: CallOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
