/**
 * The links to all agents. Agents keep one to every controller: while another one leads they wait here, and the moment this
 * one leads they are welcomed, so that it hears every host at once.
 */
import type { WebSocket } from 'ws';
import type { Ask, AskAnswers } from '../api/link.ts';
import { VirgaError, type ErrorCode } from '../core/errors.ts';
import type { Host } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, Log } from '../ports.ts';
import { Link, served } from './host-link.ts';
import type { Loop } from './loop.ts';

export { served };

export interface LinksOptions {
  readonly loop: Pick<Loop, 'attach' | 'detach' | 'report'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly siteId: () => Uuid;
  readonly version: string;
  /** Number of the epoch under which this controller leads; undefined: it does not. */
  readonly epoch: () => number | undefined;
  /** The host of that id, as the state of the leader has it. */
  readonly host: (id: Uuid) => Host | undefined;
  readonly controllerId: Uuid;
  /** Addresses of all controllers. */
  readonly controllers: () => readonly string[];
  /** Address of the controller that leads, where another one does and it is known. */
  readonly leader: () => string | undefined;
}

export class Links {
  readonly #options: LinksOptions;
  /** Of every host that said hello the newest. */
  readonly #links = new Map<Uuid, Link>();
  /** Connections that have not said hello. */
  readonly #silent = new Set<Link>();

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Hosts that are connected and take orders from here. */
  get count(): number {
    let count = 0;
    for (const { welcomed } of this.#links.values()) if (welcomed !== undefined) count += 1;
    return count;
  }

  /** Hosts that are connected and wait for this controller to lead. */
  get waiting(): number {
    return this.#links.size - this.count;
  }

  connected(hostId: Uuid): boolean {
    return this.#links.get(hostId)?.welcomed !== undefined;
  }

  /** Takes over a connection whose certificate was checked. The newest one of a host wins. */
  accept(socket: WebSocket, hostId: Uuid): void {
    const { loop, clock, log } = this.#options;
    const made = new Link(
      socket,
      hostId,
      { clock, log: log.child({ host: hostId }) },
      {
        greeted: (link) => this.#greeted(link),
        report: (_link, report) => loop.report(hostId, report),
        closed: (link) => this.#closed(link),
      },
    );
    this.#silent.add(made);
  }

  /** Who leads has changed, or where the controllers are: every host is told. */
  update(): void {
    const leads = this.#options.epoch() !== undefined;
    // Who waits goes on waiting.
    for (const link of this.#links.values()) if (leads || link.welcomed !== undefined) this.#place(link);
  }

  /** Tells every host where the controllers are. */
  announce(): void {
    const urls = this.#options.controllers();
    for (const link of this.#links.values()) if (link.welcomed !== undefined) link.tell({ type: 'controllers', urls });
  }

  /**
   * Asks a host something.
   * @throws VirgaError host_unreachable · timeout · overloaded · whatever the agent answers
   */
  async ask<K extends Ask['ask']>(host: Host, ask: Extract<Ask, { ask: K }>): Promise<AskAnswers[K]> {
    const link = this.#links.get(host.id);
    if (link?.welcomed === undefined) throw new VirgaError('host_unreachable', { name: host.name });
    return (await link.ask(ask)) as AskAnswers[K];
  }

  /** A removed host has no business here any more. */
  drop(hostId: Uuid, code: ErrorCode, detail: string): void {
    this.#links.get(hostId)?.refuse(code, { detail });
  }

  close(): void {
    for (const link of [...this.#silent, ...this.#links.values()]) link.end('the controller stops');
  }

  #greeted(link: Link): void {
    this.#silent.delete(link);
    const old = this.#links.get(link.hostId);
    if (old) this.#options.loop.detach(old);
    old?.end('a newer connection of this host took its place');
    this.#links.set(link.hostId, link);
    this.#place(link);
  }

  #closed(link: Link): void {
    this.#silent.delete(link);
    if (this.#links.get(link.hostId) === link) this.#links.delete(link.hostId);
    this.#options.loop.detach(link);
    if (link.welcomed !== undefined) this.#options.log.info('a host disconnected', { host: link.name });
  }

  /** Welcomes the host when this controller leads, else lets it wait. */
  #place(link: Link): void {
    const { loop, siteId, version, controllerId } = this.#options;
    const epoch = this.#options.epoch();
    const controllers = this.#options.controllers();
    if (epoch === undefined) {
      loop.detach(link);
      const leader = this.#options.leader();
      return link.standBy({ type: 'standby', controllerId, controllers, ...(leader === undefined ? {} : { leader }) });
    }
    if (link.welcomed === epoch) return;
    const host = this.#options.host(link.hostId);
    if (!host) {
      link.refuse('certificate_refused', { detail: 'the host is not, or no longer, of this site' });
      return;
    }
    link.welcome(host.name, epoch, { siteId: siteId(), controllerVersion: version, epoch, controllerId, controllers });
    loop.attach(link);
  }
}
