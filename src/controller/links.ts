/** The controller's side of the links to agents: see `src/api/link.ts` for the protocol. */
import { Ajv, type ValidateFunction } from 'ajv';
import { WebSocket } from 'ws';
import { maxMessageBytes, type Ask, type AskAnswers, type ToAgent } from '../api/link.ts';
import { AnswerMessage, asReport, AskAnswer, Hello, Report } from '../api/report.ts';
import { errorRegistry, VirgaError, type ErrorCode } from '../core/errors.ts';
import { linkProtocol, type Assignment } from '../core/model/assignment.ts';
import type { Host } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, HostLink, Log } from '../ports.ts';
import type { Loop } from './loop.ts';

/** This controller serves agents of its own protocol and of the one before. */
export const served = { min: Math.max(1, linkProtocol - 1), max: linkProtocol } as const;

const helloMs = 10_000;
const pingEveryMs = 10_000;
const pongWithinMs = 30_000;
const askMs = 15_000;
const maxAsks = 256;
/** Unsent bytes beyond which an assignment waits; a newer one takes its place. */
const fullBytes = 4 * 1024 * 1024;
/** Messages of one host per second; more make it wait. */
const maxPerSecond = 100;

// Fields that we do not know are dropped, since an agent may be one version newer.
const ajv = new Ajv({ removeAdditional: 'all', strict: false });
const isHello = ajv.compile<Hello>(Hello);
const isReport = ajv.compile<Report>(Report);
const isAnswer = ajv.compile<AnswerMessage>(AnswerMessage);
const answers = Object.fromEntries(
  Object.entries(AskAnswer).map(([ask, schema]) => [ask, ajv.compile(schema)]),
) as Record<Ask['ask'], ValidateFunction>;

interface Pending {
  readonly ask: Ask['ask'];
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
}

export interface LinksOptions {
  readonly loop: Pick<Loop, 'attach' | 'detach' | 'report'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly siteId: () => Uuid;
  readonly version: string;
}

export class Links {
  readonly #options: LinksOptions;
  readonly #links = new Map<Uuid, Link>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Hosts connected now. */
  get count(): number {
    return this.#links.size;
  }

  connected(hostId: Uuid): boolean {
    return this.#links.has(hostId);
  }

  /** Takes over a connection whose certificate was checked. The newest one of a host wins. */
  accept(socket: WebSocket, host: Host): void {
    const log = this.#options.log.child({ host: host.name });
    const link = new Link(
      socket,
      host,
      { ...this.#options, log },
      {
        ready: () => {
          this.#links.get(host.id)?.end('a newer connection of this host took its place');
          this.#links.set(host.id, link);
          this.#options.loop.attach(link);
        },
        closed: () => {
          if (this.#links.get(host.id) === link) this.#links.delete(host.id);
          this.#options.loop.detach(link);
        },
      },
    );
  }

  /**
   * Asks a host something.
   * @throws VirgaError host_unreachable · timeout · overloaded · whatever the agent answers
   */
  async ask<K extends Ask['ask']>(host: Host, ask: Extract<Ask, { ask: K }>): Promise<AskAnswers[K]> {
    const link = this.#links.get(host.id);
    if (!link) throw new VirgaError('host_unreachable', { name: host.name });
    return (await link.ask(ask)) as AskAnswers[K];
  }

  /** A removed host has no business here any more. */
  drop(hostId: Uuid, code: ErrorCode, detail: string): void {
    this.#links.get(hostId)?.refuse(code, { detail });
  }

  close(): void {
    for (const link of this.#links.values()) link.end('the controller stops');
  }
}

interface LinkEvents {
  readonly ready: () => void;
  readonly closed: () => void;
}

class Link implements HostLink {
  readonly hostId: Uuid;
  readonly #name: string;
  readonly #socket: WebSocket;
  readonly #options: LinksOptions;
  readonly #events: LinkEvents;
  readonly #asks = new Map<number, Pending>();
  readonly #pings: NodeJS.Timeout;
  readonly #hello: NodeJS.Timeout;
  #lastPong: number;
  #nextAsk = 1;
  #unsent: Assignment | undefined;
  #welcomed = false;
  #messages = 0;

  constructor(socket: WebSocket, host: Host, options: LinksOptions, events: LinkEvents) {
    this.hostId = host.id;
    this.#name = host.name;
    this.#socket = socket;
    this.#options = options;
    this.#events = events;
    this.#lastPong = options.clock.monotonic();
    this.#hello = setTimeout(() => this.end('no hello came'), helloMs);
    this.#pings = setInterval(() => this.#ping(), pingEveryMs);
    socket.on('message', (data, binary) => this.#receive(data as Buffer, binary));
    socket.on('pong', () => {
      this.#lastPong = options.clock.monotonic();
    });
    socket.on('error', (error) => options.log.warn('the link failed', { error: error.message }));
    socket.once('close', () => this.#closed());
  }

  send(assignment: Assignment): void {
    this.#unsent = assignment;
    this.#flush();
  }

  async ask(ask: Ask): Promise<unknown> {
    if (this.#asks.size >= maxAsks) throw new VirgaError('overloaded', { what: 'questions to a host', limit: maxAsks });
    const id = this.#nextAsk;
    this.#nextAsk += 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asks.delete(id);
        reject(new VirgaError('timeout', { what: `The host "${this.#name}"`, seconds: askMs / 1000 }));
      }, askMs);
      this.#asks.set(id, { ask: ask.ask, resolve, reject, timer });
      this.#write({ type: 'ask', id, ...ask });
    });
  }

  refuse(code: ErrorCode, values: Readonly<Record<string, string | number>>): void {
    this.#write({ type: 'refused', code, values });
    this.end(code);
  }

  end(reason: string): void {
    this.#socket.close(1008, reason.slice(0, 120));
    // The other side may be gone without a word.
    setTimeout(() => this.#socket.terminate(), 2000).unref();
  }

  #closed(): void {
    clearTimeout(this.#hello);
    clearInterval(this.#pings);
    for (const { reject, timer } of this.#asks.values()) {
      clearTimeout(timer);
      reject(new VirgaError('host_unreachable', { name: this.#name }));
    }
    this.#asks.clear();
    this.#events.closed();
    if (this.#welcomed) this.#options.log.info('a host disconnected');
  }

  #ping(): void {
    if (this.#options.clock.monotonic() - this.#lastPong > pongWithinMs) this.#socket.terminate();
    else if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
    this.#messages = 0;
  }

  #receive(data: Buffer, binary: boolean): void {
    // Who was sent away may go on talking until the line is cut.
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#slowDown();
    let message: { readonly type?: unknown } | undefined;
    try {
      message = binary ? undefined : (JSON.parse(data.toString('utf8')) as { type?: unknown });
    } catch {
      message = undefined;
    }
    if (!this.#welcomed) this.#greet(message);
    else if (isReport(message)) this.#report(message);
    else if (isAnswer(message)) this.#answer(message);
    else if (typeof message?.type === 'string' && ['hello', 'report', 'answer'].includes(message.type))
      // A message of the wrong shape is told, not trusted; the link stays, since the next may be good.
      this.#options.log.warn('a message of an agent is malformed', {
        type: message.type,
        problem: ajv.errorsText(isReport.errors),
      });
  }

  /** A host that floods us waits for its turn: TCP holds it back. */
  #slowDown(): void {
    this.#messages += 1;
    if (this.#messages < (maxPerSecond * pingEveryMs) / 1000) return;
    this.#messages = 0;
    this.#socket.pause();
    setTimeout(() => this.#socket.resume(), 1000).unref();
  }

  #greet(message: unknown): void {
    if (!isHello(message)) return this.end('the first message must be a hello');
    clearTimeout(this.#hello);
    const protocol = Math.min(message.protocolMax, served.max);
    if (protocol < Math.max(message.protocolMin, served.min)) {
      const agent = `${message.protocolMin} to ${message.protocolMax}`;
      return this.refuse('protocol_mismatch', { agent, controller: `${served.min} to ${served.max}` });
    }
    this.#welcomed = true;
    const { siteId, version, log } = this.#options;
    this.#write({ type: 'welcome', protocol, siteId: siteId(), hostId: this.hostId, controllerVersion: version });
    log.info('a host connected', { agent: message.agentVersion, protocol, session: message.session.number });
    this.#events.ready();
  }

  #report(message: Report): void {
    if (message.report.hostId !== this.hostId) return this.end('a report of another host');
    this.#options.loop.report(this.hostId, asReport(message.report));
  }

  #answer(message: AnswerMessage): void {
    const pending = this.#asks.get(message.id);
    if (!pending) return;
    this.#asks.delete(message.id);
    clearTimeout(pending.timer);
    if (message.ok) {
      const value = message.value ?? {};
      if (answers[pending.ask](value)) pending.resolve(value);
      else pending.reject(new VirgaError('engine', { host: this.#name, detail: 'its answer is malformed' }));
      return;
    }
    const { code, values } = message.error ?? { code: 'engine', values: { detail: 'no reason given' } };
    const known = Object.hasOwn(errorRegistry, code) ? (code as ErrorCode) : 'engine';
    pending.reject(new VirgaError(known, { host: this.#name, ...values }));
  }

  #flush(): void {
    if (!this.#unsent || this.#socket.readyState !== WebSocket.OPEN || this.#socket.bufferedAmount > fullBytes) return;
    const assignment = this.#unsent;
    this.#unsent = undefined;
    const text = textOf({ type: 'assignment', assignment });
    // The agent would cut the link, come again and be sent the same: it keeps what it has instead.
    if (text === undefined)
      return this.#options.log.error('the assignment of a host is too large to be sent', {
        guests: assignment.guests.length,
        limit: maxMessageBytes,
      });
    this.#socket.send(text, () => this.#flush());
  }

  #write(message: ToAgent): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify(message), () => this.#flush());
  }
}

/** As text, unless it is longer than a message may be. */
function textOf(message: ToAgent): string | undefined {
  let text: string;
  try {
    text = JSON.stringify(message);
  } catch (error) {
    // Longer than any string may be.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  return text.length > maxMessageBytes || Buffer.byteLength(text) > maxMessageBytes ? undefined : text;
}
