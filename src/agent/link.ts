/**
 * The agent's end of the links to the controllers: one line to each that it knows of. The one that leads (it said welcome,
 * under the highest epoch) gets the reports and gives the orders; the others are kept, so that a new leader has its hosts at
 * once. What a controller says that does not lead is not believed.
 */
import { maxControllers, type Ask, type ToAgent } from '../api/link.ts';
import { errorRegistry, VirgaError, type ErrorCode, type ErrorValues } from '../core/errors.ts';
import { linkProtocol, type Assignment, type HostReport } from '../core/model/assignment.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Clock, ControllerLink, Log } from '../ports.ts';
import { Line } from './link-line.ts';
import type { Credentials } from './tls.ts';

/** This agent serves controllers of its own protocol and of the neighbours (one older, one newer). */
export const served = { min: Math.max(1, linkProtocol - 1), max: linkProtocol + 1 } as const;

/** Unsent bytes beyond which a report waits; a newer one takes its place. */
const fullBytes = 1024 * 1024;
const maxAsks = 64;

export interface LinkHandlers {
  readonly assignment: (assignment: Assignment) => void;
  /** Answers a question of the controller at that address; rejects with VirgaError. */
  readonly ask: (ask: Ask, url: string) => Promise<unknown>;
}

export interface LinkOptions {
  readonly credentials: Credentials;
  /** Asked at each connection: the keeper may have begun a new one. */
  readonly session: () => HostSession;
  readonly agentVersion: string;
  readonly clock: Clock;
  readonly log: Log;
  /** A number in [0, 1): spreads the agents of a site over time after a controller's restart. */
  readonly random?: () => number;
  /** Told the addresses of the site's controllers when they changed, to be kept. */
  readonly learned?: (urls: readonly string[]) => void;
}

export class AgentLink implements ControllerLink {
  readonly #options: LinkOptions;
  readonly #lines = new Map<string, Line>();
  #credentials: Credentials;
  #handlers: LinkHandlers | undefined;
  #active: Line | undefined;
  #unsent: HostReport | undefined;
  #latest: HostReport | undefined;
  #asks = 0;
  #closed = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#credentials = options.credentials;
  }

  /** Begins to dial, and goes on for ever. */
  start(handlers: LinkHandlers): void {
    this.#handlers = handlers;
    this.#keepLines(this.#credentials.urls ?? []);
  }

  connected(): boolean {
    return this.#active !== undefined;
  }

  /** Where the controller is that leads; the last one that did, or the first known, while none does. */
  get url(): string {
    return this.#active?.url ?? this.#credentials.url;
  }

  report(report: HostReport): void {
    this.#latest = report;
    this.#unsent = report;
    this.#flush();
  }

  /** From the next connections on; the present ones stay, they were accepted. */
  use(credentials: Credentials): void {
    this.#credentials = credentials;
  }

  close(): void {
    this.#closed = true;
    for (const line of this.#lines.values()) line.close();
  }

  /** One line for each address, and none for those that are not controllers any more. */
  #keepLines(known: readonly string[]): void {
    const urls = [...new Set([this.#credentials.url, ...known])].slice(0, maxControllers);
    for (const [url, line] of this.#lines) {
      if (urls.includes(url) || line === this.#active) continue;
      line.close();
      this.#lines.delete(url);
    }
    for (const url of urls) {
      if (this.#closed || this.#lines.has(url)) continue;
      const line = this.#lineTo(url);
      this.#lines.set(url, line);
      line.dial();
    }
  }

  #lineTo(url: string): Line {
    const { clock, log, random = Math.random } = this.#options;
    return new Line({
      url,
      clock,
      log,
      random,
      credentials: () => this.#credentials,
      opened: (line) => this.#hello(line),
      message: (line, message) => this.#take(line, message),
      ended: (line, { code, detail }) => {
        if (line === this.#active) log.warn('the controller is away', { url, code, detail });
        else if (line.failures === 1) log.warn('a controller cannot be reached', { url, code, detail });
        line.state = 'down';
        this.#choose();
      },
      covered: (line) => this.#covered(line),
    });
  }

  #covered(line: Line): boolean {
    if (line.controllerId === undefined) return false;
    const same = (other: Line): boolean => other.controllerId === line.controllerId && other.state !== 'down';
    return [...this.#lines.values()].some((other) => other !== line && same(other));
  }

  #hello(line: Line): void {
    const { agentVersion, session } = this.#options;
    line.write({
      type: 'hello',
      agentVersion,
      protocolMin: served.min,
      protocolMax: served.max,
      session: session(),
    });
  }

  #take(line: Line, message: ToAgent): void {
    switch (message.type) {
      case 'welcome':
        return this.#greeted(line, message);
      case 'standby':
        line.controllerId = message.controllerId;
        line.greeted();
        line.state = 'standby';
        this.#options.log.debug('a controller stands by', { url: line.url, leader: message.leader ?? 'unknown' });
        this.#choose();
        // One that is unknown so far may be the one that leads.
        if (message.leader !== undefined) this.#learn([...this.#lines.keys(), ...message.controllers, message.leader]);
        return;
      case 'controllers':
        if (line === this.#active) this.#learn(message.urls);
        return;
      case 'assignment':
        if (line === this.#active) this.#handlers?.assignment(message.assignment);
        return;
      case 'refused':
        return this.#refusedBy(line, message);
      case 'ask':
        void this.#answer(line, message.id, message);
    }
  }

  #greeted(line: Line, welcome: Extract<ToAgent, { type: 'welcome' }>): void {
    const { credentials, log } = this.#options;
    const { siteId, hostId, controllerVersion, protocol } = welcome;
    if (siteId !== credentials.siteId || hostId !== credentials.hostId) {
      log.error('the controller takes us for another host', { siteId, hostId });
      line.refused();
      return line.drop('wrong identity');
    }
    line.greeted();
    line.controllerId = welcome.controllerId;
    line.state = 'welcomed';
    line.epoch = welcome.epoch ?? 0;
    log.info('connected to the controller', {
      url: line.url,
      controller: controllerVersion,
      protocol,
      epoch: line.epoch,
    });
    this.#choose(line);
    if (line === this.#active && welcome.controllers) this.#learn(welcome.controllers);
  }

  #refusedBy(line: Line, { code, values }: Extract<ToAgent, { type: 'refused' }>): void {
    line.refused();
    this.#options.log.error('the controller refuses this host', {
      url: line.url,
      code,
      // A newer controller may have reasons that this agent does not know.
      detail: Object.hasOwn(errorRegistry, code)
        ? new VirgaError(code, values).message
        : JSON.stringify(values).slice(0, 500),
    });
  }

  /** Follows the welcome under the highest epoch; of equal ones the newest, which is `said`. */
  #choose(said?: Line): void {
    const before = this.#active;
    let best = said ?? (before?.state === 'welcomed' ? before : undefined);
    for (const line of this.#lines.values())
      if (line.state === 'welcomed' && (best === undefined || line.epoch > best.epoch)) best = line;
    this.#active = best;
    if (!best || (best === before && best !== said)) return;
    // It knows nothing of what was sent to another controller, or to an earlier life of it.
    this.#unsent = this.#latest;
    this.#flush();
  }

  #learn(urls: readonly string[]): void {
    const before = [...this.#lines.keys()].sort().join(' ');
    this.#keepLines(urls);
    const after = [...this.#lines.keys()];
    if (after.toSorted().join(' ') !== before) this.#options.learned?.(after);
  }

  async #answer(line: Line, id: number, ask: Ask): Promise<void> {
    const refuse = (code: ErrorCode, values: ErrorValues): void =>
      line.write({ type: 'answer', id, ok: false, error: { code, values } });
    if (line !== this.#active) return refuse('not_leading', {});
    if (this.#asks >= maxAsks) return refuse('overloaded', { what: 'questions', limit: maxAsks });
    this.#asks += 1;
    try {
      const value = (await this.#handlers?.ask(ask, line.url)) ?? {};
      line.write({ type: 'answer', id, ok: true, value });
    } catch (error) {
      if (error instanceof VirgaError) return refuse(error.code, error.values);
      this.#options.log.error('a question could not be answered', { ask: ask.ask, detail: String(error) });
      refuse('engine', { detail: 'it could not be answered; see the log of the agent' });
    } finally {
      this.#asks -= 1;
    }
  }

  #flush(): void {
    const line = this.#active;
    if (!line || !this.#unsent || line.waitingBytes > fullBytes) return;
    const report = this.#unsent;
    this.#unsent = undefined;
    line.write({ type: 'report', report }, () => this.#flush());
  }
}
