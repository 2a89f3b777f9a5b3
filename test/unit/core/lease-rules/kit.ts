/**
 * Directed histories on the real rules of the lease: voters, leaders, hosts with their guard, and mail between them that a
 * history may lose or hold back. One clock for all, nothing random. What a rule is for shows when it is left out.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareEpochs } from '../../../../src/core/ha/epoch.ts';
import { Leader, type KnownKeeper } from '../../../../src/core/ha/leader.ts';
import { profiles } from '../../../../src/core/ha/margin.ts';
import { allRules, without, type Rules } from '../../../../src/core/ha/rules.ts';
import { noEpoch } from '../../../../src/core/ha/types.ts';
import type { Epoch, HaMessage, RegisterQuery, Voter as Entry, VoterList } from '../../../../src/core/ha/types.ts';
import { Voter } from '../../../../src/core/ha/voter.ts';
import type { HostRecord } from '../../../../src/core/ha/voter-record.ts';
import { Host } from './host.ts';

export const { lengthMs, boundMs } = profiles.default;
const stepMs = 50;

/** One rule, the law that falls without it, and a history in which it does; it tells whether the law held. */
export interface Directed {
  readonly rule: keyof Rules;
  readonly law: string;
  readonly history: (rules: Rules) => boolean | Promise<boolean>;
}

/** The law holds with all rules, and falls when this one is left out. */
export function proves(table: readonly Directed[]): void {
  for (const { rule, law, history } of table)
    test(`${rule}: ${law}`, async () => {
      assert.equal(await history(allRules), true, 'with all rules the law holds');
      assert.equal(await history(without(rule)), false, `without ${rule} it falls`);
    });
}

export interface Mail {
  readonly from: string;
  readonly to: string;
  readonly message: HaMessage;
}
export type Fate = 'now' | 'lost' | 'late';

export const entry = (name: string, votes = 1): Entry => ({
  keeperId: name,
  diskId: `${name}-disk`,
  name,
  votes,
  addresses: [],
});

export const listOf = (
  names: readonly string[],
  version: { readonly epoch?: Epoch; readonly number?: number; readonly forced?: number } = {},
): VoterList => ({
  siteId: 'site',
  version: { forced: version.forced ?? 0, epoch: version.epoch ?? noEpoch, number: version.number ?? 1 },
  profile: profiles.default,
  voters: names.map((name) => entry(name)),
});

export class World {
  readonly rules: Rules;
  readonly list: VoterList;
  now = 100_000;
  readonly voters = new Map<string, Voter>();
  readonly hosts = new Map<string, Host>();
  readonly leaders = new Map<string, Leader>();
  /** Who takes its mail itself: the loop of a keeper. */
  readonly others = new Map<string, (mail: Mail) => void>();
  /** Who does nothing and hears nothing. */
  readonly dead = new Set<string>();
  /** Who does nothing, but its mail is taken in when it comes. */
  readonly stalled = new Set<string>();
  /** Leaders that do not reach the database. */
  readonly uncommitting = new Set<string>();
  /** Held back by the history. */
  readonly late: Mail[] = [];
  /** Hosts that the database forgot: no leader knows of them from there. */
  readonly forgotten = new Set<string>();
  fate: (mail: Mail) => Fate = () => 'now';
  contactMs: (voter: string) => number = () => 60_000;
  /** Sessions of hosts whose guests ran while a leader had proved them over. */
  readonly doubleRuns = new Set<string>();
  #seq = 0;

  constructor(rules: Rules, names: readonly string[] = ['A', 'B', 'C']) {
    this.rules = rules;
    this.list = listOf(names);
    for (const name of names) this.voter(name, this.list);
  }

  uuid(): string {
    this.#seq += 1;
    return `${String(this.#seq).padStart(8, '0')}-id`;
  }

  voter(name: string, list?: VoterList): Voter {
    const disk = { diskId: `${name}-disk`, epoch: noEpoch, hosts: new Map<string, HostRecord>() };
    const made = new Voter(name, { ...disk, ...(list ? { list } : {}) }, this.now - 60_000, this.rules);
    this.voters.set(name, made);
    return made;
  }

  /** A voter's keeper dies and comes back with what was on its disk. */
  restart(name: string): void {
    const before = this.at(this.voters, name);
    const hosts = new Map<string, HostRecord>();
    for (const id of this.hosts.keys()) {
      const record = before.record(id);
      if (record) hosts.set(id, structuredClone(record));
    }
    this.voters.set(name, new Voter(name, { ...before.self, hosts }, this.now, this.rules));
  }

  /** All voters but this one die for ever, and it is made the only voter by hand (rule 15). Leaders hear of it later. */
  byForce(survivor: string): void {
    for (const name of this.voters.keys()) if (name !== survivor) this.dead.add(name);
    const list = listOf([survivor], { forced: 1 });
    const word = { kind: 'person', who: 'somebody', reason: 'two are burnt', saidAt: 0 } as const;
    const message = { type: 'list', epoch: noEpoch, list, word } as const;
    this.at(this.voters, survivor).storeList(message, this.now);
  }

  host(name = 'H', list: VoterList = this.list): Host {
    const made = new Host(this, name, { number: 1, id: `${name}-first` }, list);
    this.hosts.set(name, made);
    return made;
  }

  /** A controller that stands for leader as soon as time goes on. */
  leader(name: string): Leader {
    const made = new Leader(this.rules, { uuid: () => this.uuid(), random: () => 0.5 });
    made.adopt(this.list);
    this.leaders.set(name, made);
    return made;
  }

  at<T>(map: ReadonlyMap<string, T>, name: string): T {
    const found = map.get(name);
    assert.ok(found !== undefined, `there is a ${name}`);
    return found;
  }

  get keepers(): readonly KnownKeeper[] {
    const hosts = [...this.hosts.keys(), ...this.others.keys()].filter((id) => !this.forgotten.has(id));
    const witnesses = [...this.voters.keys()].filter((id) => !this.hosts.has(id));
    const known = (role: 'host' | 'witness') => (id: string) => ({ id, name: id, role, addresses: [] });
    return [...hosts.map(known('host')), ...witnesses.map(known('witness'))];
  }

  /** Time goes on: leaders tick, hosts beat, guards look, and the law is looked at. */
  run(ms: number): void {
    for (const end = this.now + ms; this.now < end;) {
      this.now += stepMs;
      for (const [name, host] of this.hosts) if (this.#acts(name)) host.step();
      for (const [name, leader] of this.leaders) if (this.#acts(name)) this.#tick(name, leader);
      this.judge();
    }
  }

  #acts(name: string): boolean {
    return !this.dead.has(name) && !this.stalled.has(name);
  }

  #tick(name: string, leader: Leader): void {
    const committing = !this.uncommitting.has(name);
    leader.tick(this.now, { committing, above: 0, keepers: this.keepers });
    for (const { to, message } of leader.take()) this.send(name, to, message);
  }

  send(from: string, to: string, message: HaMessage): void {
    const mail = { from, to, message };
    const fate = this.dead.has(from) || this.dead.has(to) ? 'lost' : this.fate(mail);
    if (fate === 'late') this.late.push(mail);
    else if (fate === 'now') this.deliver(mail);
  }

  /** Hands over what was held back and fits; doubled when it is kept in `late`. */
  deliverLate(which: (mail: Mail) => boolean): number {
    const chosen = this.late.filter(which);
    for (const mail of chosen) this.deliver(mail);
    return chosen.length;
  }

  deliver(mail: Mail): void {
    const { from, to, message } = mail;
    const other = this.others.get(to);
    if (other) return other(mail);
    const leader = this.leaders.get(to);
    if (leader) return leader.receive(from, message, this.now);
    const answer = this.#answer(from, to, message);
    if (answer) this.send(to, from, answer);
  }

  #answer(from: string, to: string, message: HaMessage): HaMessage | undefined {
    if (message.type === 'beat-answer') {
      this.hosts.get(to)?.answered(from, message);
      return undefined;
    }
    if (message.type === 'register') return this.hosts.get(to)?.tell(message) ?? this.#bare(to, message);
    if (message.type === 'bar') return this.hosts.get(to)?.bar(message);
    const voter = this.voters.get(to);
    if (!voter) {
      if (message.type === 'list') this.hosts.get(to)?.lease.adopt(message.list);
      return undefined;
    }
    const contactMs = this.contactMs(to);
    if (message.type === 'beat') return voter.beat(message, this.now).answer;
    if (message.type === 'poll') return voter.poll(message, this.now, contactMs).answer;
    if (message.type === 'census') return voter.census(message, this.now).answer;
    if (message.type === 'seal') return voter.seal(message, this.now, contactMs).answer;
    if (message.type === 'withdraw') return voter.withdraw(message).answer;
    if (message.type === 'over') return voter.over(message).answer;
    if (message.type === 'list') return voter.storeList(message, this.now).answer;
    return undefined;
  }

  /** The register of a witness: it carries no guests. */
  #bare(name: string, query: RegisterQuery): HaMessage | undefined {
    const voter = this.voters.get(name);
    if (!voter) return undefined;
    const version = voter.list?.version ?? this.list.version;
    const { seq, epoch } = query;
    const bare = { entries: [], more: false, session: { number: 0, id: '' } };
    const state = { state: 'none', leftMs: 0, votes: 0, of: 0 } as const;
    return {
      type: 'register-answer',
      hostId: name,
      diskId: voter.diskId,
      ok: true,
      seq,
      epoch,
      ...bare,
      version,
      confirmed: version,
      state,
    };
  }

  /** A session that a leader proved over runs nowhere. */
  judge(): void {
    for (const leader of this.leaders.values())
      for (const [id, { session }] of leader.seals.losses) {
        const host = this.hosts.get(id);
        if (host?.runs && host.session.number <= session.number) this.doubleRuns.add(`${id}/${session.id}`);
      }
  }

  /** Proved over by this leader: the host's present session. */
  proved(leader: Leader, host = 'H'): boolean {
    return leader.seals.losses.get(host)?.session.id === this.at(this.hosts, host).session.id;
  }
}

/** Both ways between two. */
export const between = (mail: Mail, a: string, b: string): boolean =>
  (mail.from === a && mail.to === b) || (mail.from === b && mail.to === a);

/** Nothing passes between the first and any of the others. */
export const cut = (mail: Mail, one: string, others: readonly string[]): boolean =>
  others.some((other) => between(mail, one, other));

export const higher = (a: Epoch, b: Epoch): boolean => compareEpochs(a, b) > 0;
