/** What a change in what was seen means to a person: one sentence each, with its cause. */
import type { ExitReason, Guest } from './model/guest.ts';
import type { Host } from './model/host.ts';
import type { Instant } from './model/resource.ts';
import type { NewEvent } from './model/snapshot.ts';

type Details = Pick<NewEvent, 'type' | 'severity' | 'message'> & Partial<Pick<NewEvent, 'cause' | 'evidence'>>;

export function hostEvents(before: Host, after: Host, now: Instant): readonly NewEvent[] {
  const details = [...lives(before, after), ...troubles(before, after)];
  const subject = { kind: 'host', id: after.id, name: after.name } as const;
  return details.map((each) => ({ eventAt: now, subject, who: `host:${after.name}`, ...each }));
}

function lives(before: Host, after: Host): readonly Details[] {
  const { name } = after;
  const [old, session] = [before.status.session, after.status.session];
  const all: Details[] = [];
  if (before.status.state !== 'online') {
    const message = before.status.state === 'invited' ? `${name} is online` : `${name} is heard from again`;
    all.push({ type: 'host.online', severity: 'info', message });
  }
  if (old && session && session.number > old.number)
    all.push({
      type: 'host.rebooted',
      severity: 'warning',
      message: `${name} has booted again`,
      evidence: { session: session.number, before: old.number },
    });
  return all;
}

function troubles(before: Host, after: Host): readonly Details[] {
  const { name } = after;
  const fresh = after.status.problems.filter((problem) => !before.status.problems.includes(problem));
  const all: Details[] = fresh.map((problem) => ({
    type: 'host.problem',
    severity: 'warning',
    message: `${name}: ${problem}`,
  }));
  if (before.status.problems.length > 0 && after.status.problems.length === 0)
    all.push({ type: 'host.well', severity: 'info', message: `${name} has no problems any more` });
  return all;
}

export function guestEvents(before: Guest, after: Guest, host: Host, now: Instant): readonly NewEvent[] {
  const details = [
    ...exits(before, after, host),
    ...starts(before, after, host),
    ...freezes(before, after, host),
    ...errors(before, after, host),
    ...snapshots(before, after),
  ];
  const subject = { kind: 'guest', id: after.id, name: after.name } as const;
  return details.map((each) => ({ eventAt: now, subject, who: `host:${host.name}`, ...each }));
}

const endings: Readonly<Record<ExitReason, { readonly severity: NewEvent['severity']; readonly says: string }>> = {
  shutdown: { severity: 'info', says: 'was powered off from inside' },
  destroyed: { severity: 'warning', says: 'was destroyed, not by Virga' },
  crashed: { severity: 'error', says: 'crashed' },
  failed: { severity: 'error', says: 'failed' },
  'host-reboot': { severity: 'warning', says: 'ended when its host went down' },
  'lease-lost': { severity: 'warning', says: 'was ended because the lease of its host was over' },
  unknown: { severity: 'warning', says: 'ended, nobody saw how' },
};

/** Somebody wanted its end: it is to be off or gone, or an order that passes through "off" is not yet carried out. */
function wasAsked(before: Guest, after: Guest): boolean {
  const { spec } = after;
  if (spec.power === 'off' || after.deletionAt !== undefined) return true;
  const done = before.status.observed;
  return (
    spec.startSeq > (done?.startSeq ?? 0) ||
    spec.rebootSeq > (done?.rebootSeq ?? 0) ||
    spec.rebuildSeq > (done?.rebuildSeq ?? 0) ||
    (spec.revert?.seq ?? 0) > (done?.revertSeq ?? 0)
  );
}

function exits(before: Guest, after: Guest, host: Host): readonly Details[] {
  const exit = after.status.observed?.exit;
  if (!exit || exit.exitAt === before.status.observed?.exit?.exitAt) return [];
  const evidence = { host: host.name, reason: exit.reason };
  const asked = (exit.reason === 'shutdown' || exit.reason === 'destroyed') && wasAsked(before, after);
  const { severity, says } = asked ? { severity: 'info' as const, says: 'was stopped' } : endings[exit.reason];
  return [
    {
      type: 'guest.exited',
      severity,
      message: `${after.name} ${says} on ${host.name}`,
      cause: asked ? 'asked to stop' : exit.reason,
      evidence,
    },
  ];
}

function starts(before: Guest, after: Guest, host: Host): readonly Details[] {
  const [old, seen] = [before.status.observed, after.status.observed];
  if (!seen?.since || seen.since.startedAt === old?.since?.startedAt) return [];
  const again = seen.restarts > (old?.restarts ?? 0);
  return [
    {
      type: again ? 'guest.restarted' : 'guest.started',
      severity: again ? 'warning' : 'info',
      message: again ? `${after.name} was restarted on ${host.name}` : `${after.name} started on ${host.name}`,
      ...(again && seen.exit ? { cause: seen.exit.reason } : {}),
      evidence: { host: host.name, restarts: seen.restarts },
    },
  ];
}

function freezes(before: Guest, after: Guest, host: Host): readonly Details[] {
  const [was, is] = [before.status.observed?.frozen === true, after.status.observed?.frozen === true];
  if (was === is) return [];
  const evidence = { host: host.name };
  return is
    ? [
        {
          type: 'guest.frozen',
          severity: 'warning',
          message: `${after.name} stands frozen on ${host.name}`,
          cause: 'its host hears no majority of the voters',
          evidence,
        },
      ]
    : [{ type: 'guest.thawed', severity: 'info', message: `${after.name} goes on, on ${host.name}`, evidence }];
}

function errors(before: Guest, after: Guest, host: Host): readonly Details[] {
  const [old, error] = [before.status.observed?.error, after.status.observed?.error];
  if (!error || (old?.message === error.message && old.code === error.code && old.gaveUp === error.gaveUp)) return [];
  return [
    {
      type: 'guest.error',
      severity: error.gaveUp ? 'error' : 'warning',
      message: `${after.name} on ${host.name}: ${error.message}${error.gaveUp ? '' : ' (trying again)'}`,
      cause: error.code,
    },
  ];
}

function snapshots(before: Guest, after: Guest): readonly Details[] {
  const old = new Map((before.status.observed?.snapshots ?? []).map((each) => [each.id, each.state] as const));
  return (after.status.observed?.snapshots ?? [])
    .filter((each) => old.get(each.id) !== each.state)
    .map((each) => {
      const name = after.spec.snapshots.find((known) => known.id === each.id)?.name ?? each.id;
      return each.state === 'ready'
        ? { type: 'guest.snapshot-ready', severity: 'info', message: `${after.name}: the snapshot ${name} is ready` }
        : {
            type: 'guest.snapshot-failed',
            severity: 'error',
            message: `${after.name}: the snapshot ${name} failed: ${each.error ?? 'for an unknown reason'}`,
          };
    });
}
