/** Prometheus metrics of this controller. Labels have few values: routes, methods, states; never names. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { HostReport } from '../../core/model/assignment.ts';
import type { LeaseDoor } from '../lease/view.ts';
import type { SiteState } from '../state.ts';
import { LeaseMetrics } from './lease-metrics.ts';

export interface MetricsSources {
  readonly state: SiteState;
  /** Hosts connected now. */
  readonly links: () => number;
  readonly storeUp: () => Promise<boolean>;
  readonly lease?: LeaseDoor;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Histogram<'operation' | 'status'>;
  readonly #commits: Histogram;
  readonly #iterations: Histogram;
  readonly #errors: Counter<'code'>;
  readonly #leases: LeaseMetrics;

  constructor() {
    const registers = [this.registry];
    this.#leases = new LeaseMetrics(this.registry);
    this.#requests = new Histogram({
      name: 'virga_http_request_seconds',
      help: 'Time until the answer was written, by operation and status class',
      labelNames: ['operation', 'status'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    });
    this.#commits = new Histogram({
      name: 'virga_commit_seconds',
      help: 'Time of one commit in the database',
      buckets: [0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5],
      registers,
    });
    this.#iterations = new Histogram({
      name: 'virga_loop_seconds',
      help: 'Time of one iteration of the loop',
      buckets: [0.0005, 0.002, 0.01, 0.05, 0.2, 1, 5],
      registers,
    });
    this.#errors = new Counter({
      name: 'virga_errors_total',
      help: 'Errors answered, by code',
      labelNames: ['code'],
      registers,
    });
  }

  /** Gauges are read when somebody looks. */
  watch({ state, links, storeUp, lease }: MetricsSources): void {
    const registers = [this.registry];
    if (lease) this.#leases.watch(lease);
    const leads = (): boolean => state.leadership === 'leading';
    const gauge = (name: string, help: string, read: () => number | Promise<number>): void => {
      const made: Gauge = new Gauge({
        name,
        help,
        registers,
        async collect() {
          made.set(await read());
        },
      });
    };
    gauge('virga_leading', '1: this controller leads', () => Number(leads()));
    gauge('virga_store_up', '1: the database answers', async () => Number(await storeUp()));
    gauge('virga_links', 'Hosts connected to this controller', links);
    gauge('virga_changes_waiting', 'Changes that wait or run', () => state.waiting);
    gauge('virga_resident_bytes', 'Resident memory of this process', () => process.memoryUsage.rss());
    for (const kind of ['host', 'guest', 'image'] as const) {
      const made: Gauge<'state'> = new Gauge({
        name: `virga_${kind}s`,
        help: `Number of ${kind}s by state`,
        labelNames: ['state'],
        registers,
        collect() {
          made.reset();
          if (leads()) for (const each of state.snapshot.all(kind)) made.inc({ state: each.status.state });
        },
      });
    }
  }

  /** What the keeper of a host says in its report: round trips of its beats, and how long its lease still lasts. */
  report({ lease }: Pick<HostReport, 'lease'>): void {
    if (lease) this.#leases.report(lease);
  }

  request(operation: string, status: number, ms: number): void {
    this.#requests.observe({ operation, status: `${Math.floor(status / 100)}xx` }, ms / 1000);
  }

  commit(ms: number): void {
    this.#commits.observe(ms / 1000);
  }

  iteration(ms: number): void {
    this.#iterations.observe(ms / 1000);
  }

  error(code: string): void {
    this.#errors.inc({ code });
  }
}
