/** The agent's end of the link to the controller: dials, says hello, reports, takes assignments, answers questions. */
import { WebSocket } from 'ws';
import { maxMessageBytes, type Ask, type ToAgent, type ToController } from '../api/link.ts';
import { errorRegistry, VirgaError, type ErrorCode, type ErrorValues } from '../core/errors.ts';
import { linkProtocol, type Assignment, type HostReport } from '../core/model/assignment.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Clock, ControllerLink, Log } from '../ports.ts';
import { parseToAgent } from './link-messages.ts';
import { webSocket, type Credentials } from './tls.ts';

/** This agent serves controllers of its own protocol and of the neighbours (one older, one newer). */
export const served = { min: Math.max(1, linkProtocol - 1), max: linkProtocol + 1 } as const;

/** Unsent bytes beyond which a report waits; a newer one takes its place. */
const fullBytes = 1024 * 1024;
/** The controller pings every ten seconds; a link without a sign of life for so long is given up. */
const silentMs = 35_000;
const firstRetryMs = 250;
const maxRetryMs = 5_000;
/** A controller that refused us is asked again, but seldom: only a change on one side helps. */
const refusedRetryMs = 60_000;
const maxAsks = 64;

export interface LinkHandlers {
  readonly assignment: (assignment: Assignment) => void;
  /** Answers a question of the controller; rejects with VirgaError. */
  readonly ask: (ask: Ask) => Promise<unknown>;
}

export interface LinkOptions {
  readonly credentials: Credentials;
  readonly session: HostSession;
  readonly agentVersion: string;
  readonly clock: Clock;
  readonly log: Log;
  /** A number in [0, 1): spreads the agents of a site over time after a controller's restart. */
  readonly random?: () => number;
}

export class AgentLink implements ControllerLink {
  readonly #options: LinkOptions;
  #credentials: Credentials;
  #handlers: LinkHandlers | undefined;
  #socket: WebSocket | undefined;
  #welcomed = false;
  #unsent: HostReport | undefined;
  #latest: HostReport | undefined;
  #failures = 0;
  #refused = false;
  #asks = 0;
  #timer: NodeJS.Timeout | undefined;
  #watch: NodeJS.Timeout | undefined;
  #heardAt = 0;
  #closed = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#credentials = options.credentials;
  }

  /** Begins to dial, and goes on for ever. */
  start(handlers: LinkHandlers): void {
    this.#handlers = handlers;
    this.#dial();
  }

  connected(): boolean {
    return this.#welcomed;
  }

  report(report: HostReport): void {
    this.#latest = report;
    this.#unsent = report;
    this.#flush();
  }

  /** From the next connection on; the present one stays, it was accepted. */
  use(credentials: Credentials): void {
    this.#credentials = credentials;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    const socket = this.#socket;
    socket?.close(1000, 'the agent stops');
    setTimeout(() => socket?.terminate(), 1000).unref();
  }

  #dial(): void {
    const limits = { handshakeTimeout: 10_000, maxPayload: maxMessageBytes };
    const socket = webSocket(this.#credentials, '/agent/v1/link', limits);
    this.#socket = socket;
    this.#refused = false;
    socket.on('open', () => this.#opened());
    socket.on('message', (data, binary) => this.#receive(data as Buffer, binary));
    socket.on('ping', () => this.#heard());
    socket.on('error', (error) => this.#options.log.debug('the link failed', { detail: error.message }));
    socket.once('close', (code, reason) => this.#ended(code, reason.toString()));
  }

  #opened(): void {
    this.#heard();
    const { agentVersion, session } = this.#options;
    this.#write({ type: 'hello', agentVersion, protocolMin: served.min, protocolMax: served.max, session });
    this.#watch = setInterval(() => {
      if (this.#options.clock.monotonic() - this.#heardAt > silentMs) this.#socket?.terminate();
    }, 5000);
  }

  #heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }

  #ended(code: number, reason: string): void {
    clearInterval(this.#watch);
    const { log, random = Math.random } = this.#options;
    if (this.#welcomed) log.warn('the controller is away', { code, detail: reason });
    this.#welcomed = false;
    this.#socket = undefined;
    if (this.#closed) return;
    const backOff = Math.min(maxRetryMs, firstRetryMs * 2 ** Math.min(this.#failures, 10));
    const base = this.#refused ? refusedRetryMs : backOff;
    if (this.#failures === 1)
      log.warn('the controller cannot be reached', { url: this.#credentials.url, code, detail: reason });
    this.#failures += 1;
    // Between half and the whole of it, so that a thousand agents do not come back in one instant.
    this.#timer = setTimeout(() => this.#dial(), base * (0.5 + random() / 2));
  }

  #receive(data: Buffer, binary: boolean): void {
    this.#heard();
    const parsed = binary ? undefined : parseToAgent(data.toString('utf8'));
    if (!parsed) return;
    if (parsed.ok) this.#take(parsed.message);
    else this.#options.log.warn('a message of the controller is malformed', { detail: parsed.problem });
  }

  #take(message: ToAgent): void {
    switch (message.type) {
      case 'welcome':
        return this.#greeted(message);
      case 'assignment':
        return this.#handlers?.assignment(message.assignment);
      case 'refused':
        this.#refused = true;
        this.#options.log.error('the controller refuses this host', {
          code: message.code,
          // A newer controller may have reasons that this agent does not know.
          detail: Object.hasOwn(errorRegistry, message.code)
            ? new VirgaError(message.code, message.values).message
            : JSON.stringify(message.values).slice(0, 500),
        });
        return;
      case 'ask':
        void this.#answer(message.id, message);
    }
  }

  #greeted({ siteId, hostId, controllerVersion, protocol }: Extract<ToAgent, { type: 'welcome' }>): void {
    const { credentials, log } = this.#options;
    if (siteId !== credentials.siteId || hostId !== credentials.hostId) {
      log.error('the controller takes us for another host', { siteId, hostId });
      this.#refused = true;
      this.#socket?.close(1008, 'wrong identity');
      return;
    }
    this.#welcomed = true;
    this.#failures = 0;
    log.info('connected to the controller', { controller: controllerVersion, protocol });
    // It knows nothing of what was sent to an earlier life of it.
    this.#unsent = this.#latest;
    this.#flush();
  }

  async #answer(id: number, ask: Ask): Promise<void> {
    if (this.#asks >= maxAsks) return this.#refuse(id, 'overloaded', { what: 'questions', limit: maxAsks });
    this.#asks += 1;
    try {
      const value = (await this.#handlers?.ask(ask)) ?? {};
      this.#write({ type: 'answer', id, ok: true, value });
    } catch (error) {
      if (error instanceof VirgaError) return this.#refuse(id, error.code, error.values);
      this.#options.log.error('a question could not be answered', { ask: ask.ask, detail: String(error) });
      this.#refuse(id, 'engine', { detail: 'it could not be answered; see the log of the agent' });
    } finally {
      this.#asks -= 1;
    }
  }

  #refuse(id: number, code: ErrorCode, values: ErrorValues): void {
    this.#write({ type: 'answer', id, ok: false, error: { code, values } });
  }

  #flush(): void {
    const socket = this.#socket;
    if (!this.#welcomed || !this.#unsent || !socket || socket.bufferedAmount > fullBytes) return;
    const report = this.#unsent;
    this.#unsent = undefined;
    this.#write({ type: 'report', report });
  }

  #write(message: ToController): void {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify(message), () => this.#flush());
  }
}
