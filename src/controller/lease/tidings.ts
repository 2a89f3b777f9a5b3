/** Changes of leases become lines of the site's record, once each, with cause and evidence. */
import type { NewEvent, Snapshot } from '../../core/model/snapshot.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { Clock, Log } from '../../ports.ts';
import type { SiteState } from '../state.ts';
import type { HostLeaseSight, LeaseSight } from './view.ts';

type State = HostLeaseSight['state'];

const maxWaiting = 200;

const words: Readonly<Partial<Record<State, Pick<NewEvent, 'type' | 'severity'> & { says: string; cause: string }>>> = {
  lapsed: {
    type: 'host.lapsed',
    severity: 'warning',
    says: 'froze its guests: its lease lapsed',
    cause: 'it heard no majority of the voters',
  },
  sealing: {
    type: 'host.sealing',
    severity: 'warning',
    says: 'is being sealed',
    cause: 'the grants of a majority ran out',
  },
  held: {
    type: 'host.held',
    severity: 'info',
    says: 'holds its lease again; its guests go on',
    cause: 'a majority grants it',
  },
};

export class Tidings {
  readonly #state: SiteState;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #told = new Map<Uuid, State>();
  #waiting: NewEvent[] = [];
  #epoch = '';
  #writing = false;
  #byHand: { readonly who: string; readonly reason: string } | undefined;

  constructor(state: SiteState, clock: Clock, log: Log) {
    this.#state = state;
    this.#clock = clock;
    this.#log = log;
  }

  /** Somebody made survivors the voters: written as soon as this controller leads. */
  forced({ who, reason }: { readonly who: string; readonly reason: string }): void {
    this.#byHand = { who, reason };
  }

  tell(sight: LeaseSight, snapshot: Snapshot): void {
    if (this.#byHand) {
      const { id, name } = snapshot.site;
      const names = sight.voters.map((voter) => voter.name).join(', ');
      const { who, reason } = this.#byHand;
      this.#byHand = undefined;
      this.#waiting.push({
        eventAt: this.#clock.now(),
        type: 'voters.forced',
        severity: 'warning',
        subject: { kind: 'site', id, name },
        message: `${names} became the voters by hand`,
        who,
        reason,
      });
    }
    if (sight.leadership === 'leading' && sight.epoch.id !== this.#epoch) {
      this.#epoch = sight.epoch.id;
      const { id, name } = snapshot.site;
      this.#add(
        { kind: 'site', id, name },
        'site.leader',
        'info',
        `a controller leads under epoch ${sight.epoch.number}`,
        'a majority of the voters accepted it',
        {},
      );
    }
    for (const seen of sight.hosts) this.#host(seen, snapshot);
    this.#write();
  }

  #host(seen: HostLeaseSight, snapshot: Snapshot): void {
    const before = this.#told.get(seen.hostId);
    if (seen.state === before || seen.state === 'unknown' || seen.state === 'none') return;
    this.#told.set(seen.hostId, seen.state);
    const host = snapshot.get('host', seen.hostId);
    const word = words[seen.state];
    // The first sight of a host that is well is no news.
    if (!host || !word || (seen.state === 'held' && (before === undefined || before === 'lost'))) return;
    const evidence = {
      ...(seen.session ? { session: seen.session.number } : {}),
      ...(seen.silentSinceAt === undefined ? {} : { silentMs: this.#clock.now() - seen.silentSinceAt }),
      ...(seen.sealedVotes === undefined ? {} : { sealedVotes: seen.sealedVotes, votes: seen.votes ?? 0 }),
    };
    this.#add(
      { kind: 'host', id: host.id, name: host.name },
      word.type,
      word.severity,
      `${host.name} ${word.says}`,
      word.cause,
      evidence,
    );
  }

  #add(
    subject: NewEvent['subject'],
    type: string,
    severity: NewEvent['severity'],
    message: string,
    cause: string,
    evidence: NonNullable<NewEvent['evidence']>,
  ): void {
    if (this.#waiting.length >= maxWaiting) this.#waiting.shift();
    this.#waiting.push({ eventAt: this.#clock.now(), type, severity, subject, message, who: 'virga', cause, evidence });
  }

  #write(): void {
    if (this.#writing || this.#waiting.length === 0) return;
    const events = this.#waiting;
    this.#waiting = [];
    this.#writing = true;
    this.#state
      .change(() => ({ change: { put: [], remove: [], events } }))
      .catch((error: unknown) => {
        this.#waiting = [...events, ...this.#waiting].slice(-maxWaiting);
        this.#log.warn('events of leases could not be written', { error: String(error) });
      })
      .finally(() => {
        this.#writing = false;
      });
  }
}
