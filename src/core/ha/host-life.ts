/** How the state of a host follows from reports, silence, proofs of loss, and (a witness) from its keeper alone. */
import type { Host, HostLoss, HostStatus } from '../model/host.ts';
import type { Instant } from '../model/resource.ts';
import type { NewEvent } from '../model/snapshot.ts';

export interface HostNews {
  readonly host: Host;
  readonly event: Pick<NewEvent, 'type' | 'severity' | 'message' | 'cause' | 'evidence'>;
}

export interface Sight {
  readonly now: Instant;
  readonly silentAfterMs: number;
  readonly listeningSinceAt: Instant;
  /** When the host's last report came; of a witness: when its keeper answered last. */
  readonly heardAt: Instant | undefined;
  readonly loss: HostLoss | undefined;
}

/** Undefined: it stays as it is. A loss is believed of the session that is known, and of earlier ones only. */
export function hostNews(host: Host, sight: Sight): HostNews | undefined {
  const { loss } = sight;
  if (loss && isNews(host, loss)) return lost(host, loss, sight);
  if (host.spec.role === 'witness' && host.status.state !== 'online') return heardAgain(host, sight);
  return host.status.state === 'online' ? silent(host, sight) : undefined;
}

function isNews({ status }: Host, loss: HostLoss): boolean {
  if ((status.session?.number ?? 0) > loss.session.number) return false;
  return status.loss === undefined || status.loss.session.number < loss.session.number;
}

const causes: Readonly<Record<HostLoss['how'], string>> = {
  lease: 'its lease ran out: a majority of voters heard nothing from it and sealed its session',
  fence: 'a fence device confirmed that its power is off',
  word: 'a person said that it is dead',
  ended: 'it said that it goes down, and everything on it has ended',
};

/** Its session is over for ever; what was on its way out of it needs no word from it any more. */
function lost(host: Host, loss: HostLoss, { now, heardAt }: Sight): HostNews {
  const state = loss.how === 'fence' || loss.how === 'word' ? 'fenced' : 'lost';
  const leaving = host.status.leaving?.map((each) => ({ ...each, over: true as const }));
  const status: HostStatus = {
    ...host.status,
    loss,
    state,
    stateAt: host.status.state === state ? host.status.stateAt : now,
    ...(leaving ? { leaving } : {}),
  };
  const ended = loss.how === 'ended';
  return {
    host: { ...host, status },
    event: {
      type: 'host.lost',
      severity: ended ? 'info' : 'error',
      message: ended ? `${host.name} went down in order` : `${host.name} is lost: nothing runs there any more`,
      cause: causes[loss.how],
      evidence: {
        silentMs: Math.max(0, loss.lostAt - Math.max(heardAt ?? 0, heardLast(host))),
        ...loss.evidence,
        how: loss.how,
        session: loss.session.number,
      },
    },
  };
}

function heardLast({ status }: Host): Instant {
  return status.lastHeardAt ?? status.stateAt;
}

/** A witness has no agent: its keeper's answers are all that is heard from it. */
function heardAgain(host: Host, { heardAt, now, silentAfterMs }: Sight): HostNews | undefined {
  const { state, stateAt } = host.status;
  if (heardAt === undefined || now - heardAt > silentAfterMs || (state !== 'invited' && heardAt <= stateAt))
    return undefined;
  return {
    host: { ...host, status: { ...host.status, state: 'online', stateAt: now, lastHeardAt: heardAt } },
    event: {
      type: 'host.online',
      severity: 'info',
      message: state === 'invited' ? `${host.name} is online` : `${host.name} is heard from again`,
    },
  };
}

function silent(host: Host, { heardAt, listeningSinceAt, now, silentAfterMs }: Sight): HostNews | undefined {
  const lastHeardAt = Math.max(heardAt ?? heardLast(host), listeningSinceAt);
  if (now - lastHeardAt <= silentAfterMs) return undefined;
  const seconds = Math.round((now - lastHeardAt) / 1000);
  return {
    host: { ...host, status: { ...host.status, state: 'silent', stateAt: now, lastHeardAt } },
    event: {
      type: 'host.silent',
      severity: 'warning',
      message: `${host.name} was not heard from for ${seconds} s`,
      evidence: { seconds },
    },
  };
}
