/** Metrics of leases: beats, time left, detection, epoch, voters. Labels have few values; never names. */
import { Gauge, Histogram, type Registry } from 'prom-client';
import type { LeaseReport } from '../../core/model/assignment.ts';
import type { LeaseDoor } from '../lease/view.ts';

const states = ['held', 'lapsed', 'sealing', 'lost', 'none', 'unknown'] as const;
/** Detections of which is known that they were counted; more than the door remembers. */
const maxCounted = 256;

export class LeaseMetrics {
  readonly #registry: Registry;
  readonly #beats: Histogram;
  readonly #left: Histogram;
  readonly #guardLag: Histogram;
  readonly #detections: Histogram<'step'>;
  readonly #counted = new Set<string>();
  #door: LeaseDoor | undefined;

  constructor(registry: Registry) {
    this.#registry = registry;
    const registers = [registry];
    this.#beats = new Histogram({
      name: 'virga_beat_round_trip_seconds',
      help: 'Round trip of a beat between a host and a voter, as hosts report it',
      buckets: [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1],
      registers,
    });
    this.#left = new Histogram({
      name: 'virga_lease_left_seconds',
      help: 'How long the lease of a host still lasted when it reported; near 0 its guests are about to freeze',
      buckets: [0, 0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 5, 10],
      registers,
    });
    this.#guardLag = new Histogram({
      name: 'virga_guard_lag_seconds',
      help: 'Worst lag of the timers of a host’s guard lately; beyond half the bound it asks for no lease',
      buckets: [0.0005, 0.001, 0.005, 0.02, 0.05, 0.125, 0.25, 0.5, 1],
      registers,
    });
    this.#detections = new Histogram({
      name: 'virga_detection_seconds',
      help: 'From the first silence of a host until its session was sealed, and until it was declared lost',
      labelNames: ['step'],
      buckets: [0.5, 1, 1.5, 2, 2.5, 2.75, 3, 3.5, 4, 5, 8, 15, 60],
      registers,
      collect: () => this.#count(),
    });
  }

  report({ state, leftMs, guardLagMs, roundTripsMs }: LeaseReport): void {
    for (const ms of Object.values(roundTripsMs)) this.#beats.observe(ms / 1000);
    if (state === 'held' || state === 'lapsed') this.#left.observe(leftMs / 1000);
    if (guardLagMs !== undefined) this.#guardLag.observe(guardLagMs / 1000);
  }

  /** Gauges are read, and new detections counted, when somebody looks. */
  watch(lease: LeaseDoor): void {
    this.#door = lease;
    const registers = [this.#registry];
    const gauge = (name: string, help: string, read: () => number): void => {
      const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
    };
    const sum = (voters: readonly { readonly votes: number }[]): number =>
      voters.reduce((total, each) => total + each.votes, 0);
    gauge('virga_epoch', 'Epoch under which this controller leads, or led last', () => lease.sight().epoch.number);
    gauge('virga_votes', 'Votes of all voters', () => sum(lease.sight().voters));
    gauge('virga_votes_answering', 'Votes of the voters that answer this controller', () =>
      sum(lease.sight().voters.filter((each) => each.answers)),
    );
    gauge(
      'virga_barrier_hosts',
      'Hosts whose register was not seen under the present epoch',
      () => lease.sight().barrier.length,
    );
    const leases: Gauge<'state'> = new Gauge({
      name: 'virga_host_leases',
      help: 'Number of hosts by state of their lease',
      labelNames: ['state'],
      registers,
      collect: () => {
        for (const state of states) leases.set({ state }, 0);
        for (const { state } of lease.sight().hosts) leases.inc({ state });
      },
    });
  }

  /** Each detection counts once, however often somebody looks. */
  #count(): void {
    for (const { hostId, session, silentAt, sealedAt, lostAt } of this.#door?.detections() ?? []) {
      const key = `${hostId}/${session.number}/${session.id}`;
      if (this.#counted.has(key)) continue;
      this.#counted.add(key);
      this.#detections.observe({ step: 'sealed' }, Math.max(0, sealedAt - silentAt) / 1000);
      this.#detections.observe({ step: 'lost' }, Math.max(0, lostAt - silentAt) / 1000);
    }
    for (const key of this.#counted) {
      if (this.#counted.size <= maxCounted) break;
      this.#counted.delete(key);
    }
  }
}
