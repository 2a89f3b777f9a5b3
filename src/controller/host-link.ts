/** The controller's end of the link to one agent: see `src/api/link.ts` for the protocol. */
import { Ajv, type ValidateFunction } from 'ajv';
import { WebSocket } from 'ws';
import { maxMessageBytes, type Ask, type ToAgent } from '../api/link.ts';
import { AnswerMessage, asReport, AskAnswer, Hello, Report } from '../api/report.ts';
import { errorRegistry, VirgaError, type ErrorCode } from '../core/errors.ts';
import { linkProtocol, type Assignment, type HostReport } from '../core/model/assignment.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, HostLink, Log } from '../ports.ts';

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

export interface LinkEvents {
  /** It said hello, in a protocol that we speak. */
  readonly greeted: (link: Link) => void;
  readonly report: (link: Link, report: HostReport) => void;
  readonly closed: (link: Link) => void;
}

export interface LinkWorld {
  readonly clock: Clock;
  readonly log: Log;
}

export class Link implements HostLink {
  readonly hostId: Uuid;
  /** Of the host, once it is known; its id until then. */
  name: string;
  /** Number of the epoch under which the host was welcomed; undefined: it waits. */
  welcomed: number | undefined;
  readonly #socket: WebSocket;
  readonly #options: LinkWorld;
  readonly #events: LinkEvents;
  readonly #asks = new Map<number, Pending>();
  readonly #pings: NodeJS.Timeout;
  readonly #hello: NodeJS.Timeout;
  #lastPong: number;
  #nextAsk = 1;
  #unsent: Assignment | undefined;
  #protocol: number | undefined;
  #messages = 0;

  constructor(socket: WebSocket, hostId: Uuid, options: LinkWorld, events: LinkEvents) {
    this.hostId = hostId;
    this.name = hostId;
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
        reject(new VirgaError('timeout', { what: `The host "${this.name}"`, seconds: askMs / 1000 }));
      }, askMs);
      this.#asks.set(id, { ask: ask.ask, resolve, reject, timer });
      this.tell({ type: 'ask', id, ...ask });
    });
  }

  /** From now on orders go there. The assignment follows. */
  welcome(
    name: string,
    epoch: number,
    more: Omit<Extract<ToAgent, { type: 'welcome' }>, 'type' | 'protocol' | 'hostId'>,
  ): void {
    this.name = name;
    this.welcomed = epoch;
    this.tell({ type: 'welcome', protocol: this.#protocol ?? served.min, hostId: this.hostId, ...more });
  }

  /** Orders do not come from here any more; what was asked is not answered. */
  standBy(message: Extract<ToAgent, { type: 'standby' }>): void {
    this.welcomed = undefined;
    this.#unsent = undefined;
    this.#giveUp();
    this.tell(message);
  }

  refuse(code: ErrorCode, values: Readonly<Record<string, string | number>>): void {
    this.tell({ type: 'refused', code, values });
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
    this.#giveUp();
    this.#events.closed(this);
  }

  #giveUp(): void {
    for (const { reject, timer } of this.#asks.values()) {
      clearTimeout(timer);
      reject(new VirgaError('host_unreachable', { name: this.name }));
    }
    this.#asks.clear();
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
    if (this.#protocol === undefined) this.#greet(message);
    // Who was told that we stand by may not have heard it yet.
    else if (this.welcomed === undefined) return;
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
    this.#protocol = protocol;
    this.#options.log.info('a host connected', {
      host: this.hostId,
      agent: message.agentVersion,
      protocol,
      session: message.session.number,
    });
    this.#events.greeted(this);
  }

  #report(message: Report): void {
    if (message.report.hostId !== this.hostId) return this.end('a report of another host');
    this.#events.report(this, asReport(message.report));
  }

  #answer(message: AnswerMessage): void {
    const pending = this.#asks.get(message.id);
    if (!pending) return;
    this.#asks.delete(message.id);
    clearTimeout(pending.timer);
    if (message.ok) {
      const value = message.value ?? {};
      if (answers[pending.ask](value)) pending.resolve(value);
      else pending.reject(new VirgaError('engine', { host: this.name, detail: 'its answer is malformed' }));
      return;
    }
    const { code, values } = message.error ?? { code: 'engine', values: { detail: 'no reason given' } };
    const known = Object.hasOwn(errorRegistry, code) ? (code as ErrorCode) : 'engine';
    pending.reject(new VirgaError(known, { host: this.name, ...values }));
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

  tell(message: ToAgent): void {
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
