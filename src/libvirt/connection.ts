import { CallTable } from './calls.ts';
import { onDeadline, withDeadline, type CallOptions } from './deadline.ts';
import { LibvirtError } from './errors.ts';
import {
  FRAME_CALL,
  FRAME_MESSAGE,
  FRAME_REPLY,
  FRAME_STREAM,
  HEADER_BYTES,
  KEEPALIVE_PROGRAM,
  MAX_FRAME_BYTES,
  STATUS_ERROR,
  STATUS_OK,
  type Frame,
} from './frame.ts';
import { Keepalive, PING, PONG } from './keepalive.ts';
import {
  PROCEDURES,
  type CallRest,
  type CallArgs,
  type CallResult,
  type ProcedureName,
  type StreamName,
} from './procedures.ts';
import { decodeAll, encodeAll, type Procedure } from './schema.ts';
import { LibvirtStream, type StreamOptions } from './streams.ts';
import { Transport } from './transport.ts';
import { wireError } from './types.ts';

/** How to connect, and the bounds of the connection. */
export interface ConnectionOptions {
  /** Path of the daemon's unix socket. */
  readonly path: string;
  /** Name for connectOpen, such as `qemu:///system`. */
  readonly uri: string;
  readonly readonly?: boolean;
  /** Bound of connecting, authenticating and opening together (default 10 s). */
  readonly connectTimeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Bound of a call that names none (default 30 s). */
  readonly callTimeoutMs?: number;
  /** Calls on the wire at a time (default 4: the daemon serves 5, see `CallTable`). */
  readonly maxInFlight?: number;
  /** Calls waiting beyond those (default 1024). */
  readonly maxQueued?: number;
  /** Milliseconds of silence before this side pings; five missed answers end the connection. 0: neither side pings. */
  readonly keepaliveMs?: number;
  readonly maxFrameBytes?: number;
  /** Receives the daemon's messages (events). What it throws ends the connection as a protocol error. */
  readonly onMessage?: (frame: Frame) => void;
}

/** The daemon's feature number for «this client answers keepalive pings» (VIR_DRV_FEATURE_PROGRAM_KEEPALIVE). */
const FEATURE_KEEPALIVE = 10;
const OPEN_READONLY = 1;
/** Authentication types of authList. */
const AUTH_NONE = 0;
const AUTH_SASL = 1;
const AUTH_POLKIT = 2;
/** A connection all of whose places are held by replies that nobody waits for is given up after this time. */
const STUCK_MS = 30_000;

const EMPTY = new Uint8Array(0);

/** One authenticated, opened connection to a libvirt daemon. */
export class Connection {
  readonly #transport: Transport;
  readonly #calls: CallTable;
  readonly #streams = new Map<number, LibvirtStream>();
  readonly #options: ConnectionOptions;
  readonly #keepalive: Keepalive;
  readonly #ended = Promise.withResolvers<LibvirtError>();
  #endError: LibvirtError | undefined;
  #closing = false;
  #serial = 0;

  private constructor(transport: Transport, options: ConnectionOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#calls = new CallTable(options.maxInFlight ?? 4, options.maxQueued ?? 1024);
    this.#keepalive = new Keepalive({
      signs: () => transport.received,
      ping: () => this.#sendKeepalive(PING),
      dead: (ms) => this.destroy(new LibvirtError('closed', `the daemon has shown no sign of life for ${ms} ms`)),
      stuck: () => this.#calls.stuck(STUCK_MS),
    });
    transport.start({ onFrame: (frame) => this.#onFrame(frame), onEnd: (error) => this.#onEnd(error) });
  }

  /** Connects, authenticates and opens. @throws LibvirtError (connect, auth, timeout, aborted, libvirt, protocol) */
  static async open(options: ConnectionOptions): Promise<Connection> {
    const what = `connecting to ${options.path}`;
    const stop = new AbortController();
    const off = onDeadline(what, options.connectTimeoutMs ?? 10_000, options.signal, (error) => stop.abort(error));
    try {
      const transport = await Transport.connect(options.path, stop.signal, options.maxFrameBytes);
      const connection = new Connection(transport, options);
      try {
        await connection.#handshake(stop.signal);
        return connection;
      } catch (error) {
        connection.destroy(new LibvirtError('closed', 'the connection could not be opened', { cause: error }));
        throw error;
      }
    } catch (error) {
      // The reason of the stop (timeout or abort) says more than the call that it interrupted.
      throw stop.signal.aborted ? stop.signal.reason : error;
    } finally {
      off();
    }
  }

  async #handshake(signal: AbortSignal): Promise<void> {
    const { types } = await this.call('authList', {}, { signal });
    await this.#authenticate(types, signal);
    const keepaliveMs = this.#options.keepaliveMs ?? 5000;
    if (keepaliveMs > 0) {
      const { supported } = await this.call('connectSupportsFeature', { feature: FEATURE_KEEPALIVE }, { signal });
      if (supported !== 0) this.#keepalive.start(keepaliveMs);
    }
    const flags = this.#options.readonly === true ? OPEN_READONLY : 0;
    await this.call('connectOpen', { name: this.#options.uri, flags }, { signal });
  }

  async #authenticate(types: readonly number[], signal: AbortSignal): Promise<void> {
    if (types.length === 0 || types.includes(AUTH_NONE)) return;
    const where = this.#options.path;
    if (types.includes(AUTH_POLKIT)) {
      try {
        await this.call('authPolkit', {}, { signal });
        return;
      } catch (cause) {
        const advice = 'run as root, or as a member of the group that polkit lets manage libvirt';
        throw new LibvirtError('auth', `the daemon at ${where} refused by polkit: ${advice}`, { cause });
      }
    }
    const wanted = types.includes(AUTH_SASL) ? 'SASL' : `unknown (${types.join(', ')})`;
    const advice = 'set auth_unix_rw = "none" or "polkit" in the daemon’s configuration';
    throw new LibvirtError('auth', `the daemon at ${where} wants ${wanted} authentication: ${advice}`);
  }

  /** Resolves, never rejects, when the connection has ended, with the reason. */
  get ended(): Promise<LibvirtError> {
    return this.#ended.promise;
  }

  get isOpen(): boolean {
    return this.#endError === undefined && !this.#closing;
  }

  /**
   * Calls a procedure by libvirt's name: `await connection.call('domainGetState', { dom })`.
   * @throws LibvirtError of any kind; see `ErrorKind` for what is known about the call then.
   */
  async call<N extends ProcedureName>(name: N, ...rest: CallRest<N>): Promise<CallResult<N>> {
    const [args, options] = rest as [CallArgs<N> | undefined, CallOptions | undefined];
    if (this.#closing) throw new LibvirtError('closed', `${name}: the connection is being closed`, { procedure: name });
    return this.#call(name, args, this.#nextSerial(), options ?? {});
  }

  #call<N extends ProcedureName>(
    name: N,
    args: CallArgs<N> | undefined,
    serial: number,
    options: CallOptions,
  ): Promise<CallResult<N>> {
    // The table's entries differ in their types; the caller's types come from the same entry.
    const procedure = PROCEDURES[name] as unknown as Procedure;
    const frame = {
      program: procedure.program,
      procedure: procedure.number,
      type: FRAME_CALL,
      serial,
      status: STATUS_OK,
    };
    return new Promise((resolve, reject) => {
      if (this.#endError !== undefined) throw endedBefore(name, this.#endError);
      const body = encodeAll(MAX_FRAME_BYTES - HEADER_BYTES, (to) => procedure.encodeArgs(to, args ?? {}));
      const call = {
        serial,
        name,
        number: procedure.number,
        send: () => this.#transport.send(frame, body),
        resolve: (reply: Buffer) => resolve(decodeAll(reply, procedure.result) as CallResult<N>),
        reject,
      };
      this.#calls.add(call, options.timeoutMs ?? this.#options.callTimeoutMs ?? 30_000, options.signal);
    });
  }

  /**
   * Calls a procedure that opens a stream. While the stream is not read, neither is this connection: give each stream
   * a connection of its own, opened with `keepaliveMs: 0`.
   */
  async openStream<N extends StreamName>(
    name: N,
    args: CallArgs<N>,
    options: CallOptions & StreamOptions = {},
  ): Promise<{ stream: LibvirtStream; result: CallResult<N> }> {
    if (this.#closing) throw new LibvirtError('closed', `${name}: the connection is being closed`, { procedure: name });
    const serial = this.#nextSerial();
    const { program, number: procedure, stream: direction } = PROCEDURES[name];
    const stream = new LibvirtStream(name, direction, options, {
      send: (status, data, done) =>
        this.#transport.send({ program, procedure, type: FRAME_STREAM, serial, status }, data, done),
      pause: () => this.#transport.pause(),
      resume: () => this.#transport.resume(),
      release: () => this.#streams.delete(serial),
    });
    this.#streams.set(serial, stream);
    try {
      return { stream, result: await this.#call(name, args, serial, options) };
    } catch (error) {
      stream.discard();
      throw error;
    }
  }

  /**
   * Ends in order: takes no new calls, lets those under way finish, tells the daemon. Never rejects.
   * @param timeoutMs bound of all that; the connection is then cut (default 5 s).
   */
  async close(timeoutMs = 5000): Promise<void> {
    if (!this.#closing && this.#endError === undefined) {
      this.#closing = true;
      const reason = new LibvirtError('closed', 'the connection was closed by this side');
      try {
        await withDeadline('closing', this.#finish(timeoutMs), timeoutMs);
      } catch {
        // The daemon does not answer: nothing is left to be told to it.
      }
      this.destroy(reason);
    }
    await this.#ended.promise;
  }

  async #finish(timeoutMs: number): Promise<void> {
    await this.#calls.drained();
    await this.#call('connectClose', {}, this.#nextSerial(), { timeoutMs });
  }

  /** Ends at once; everything pending is rejected with this error. */
  destroy(error: LibvirtError): void {
    this.#transport.destroy(error);
  }

  #nextSerial(): number {
    do this.#serial = (this.#serial % 0xffff_ffff) + 1;
    while (this.#calls.has(this.#serial) || this.#streams.has(this.#serial));
    return this.#serial;
  }

  #onFrame(frame: Frame): void {
    if (frame.program === KEEPALIVE_PROGRAM) return this.#onKeepalive(frame);
    switch (frame.type) {
      case FRAME_REPLY:
        return this.#onReply(frame);
      case FRAME_MESSAGE:
        return this.#options.onMessage?.(frame);
      case FRAME_STREAM:
        // Packets of a stream that was aborted may still be on their way: unknown serials are dropped.
        return this.#streams.get(frame.serial)?.receive(frame);
      default:
        throw LibvirtError.protocol(`a frame of type ${frame.type}`);
    }
  }

  #onReply(frame: Frame): void {
    const call = this.#calls.take(frame.serial);
    if (call === undefined) return;
    try {
      if (frame.procedure !== call.number) throw LibvirtError.protocol(`${call.name} answered as ${frame.procedure}`);
      if (frame.status === STATUS_OK) call.resolve(frame.body);
      else if (frame.status === STATUS_ERROR)
        call.reject(LibvirtError.wire(decodeAll(frame.body, wireError), call.name));
      else throw LibvirtError.protocol(`a reply of status ${frame.status}`);
    } catch (cause) {
      const error = cause instanceof LibvirtError ? cause : LibvirtError.protocol('unusable reply', cause);
      call.reject(error);
      throw error;
    }
  }

  #onKeepalive(frame: Frame): void {
    // A daemon that pings without reading the answers would fill this process's memory with them.
    if (frame.type === FRAME_MESSAGE && frame.procedure === PING && !this.#transport.congested)
      this.#sendKeepalive(PONG);
  }

  #sendKeepalive(procedure: number): void {
    this.#transport.send(
      { program: KEEPALIVE_PROGRAM, procedure, type: FRAME_MESSAGE, serial: 0, status: STATUS_OK },
      EMPTY,
    );
  }

  #onEnd(error: LibvirtError): void {
    this.#endError = error;
    this.#keepalive.stop();
    this.#calls.fail(error);
    for (const stream of this.#streams.values()) stream.lost(error);
    this.#streams.clear();
    this.#ended.resolve(error);
  }
}

function endedBefore(name: string, cause: LibvirtError): LibvirtError {
  return new LibvirtError('closed', `${name}: the connection had ended: ${cause.message}`, { cause, procedure: name });
}
