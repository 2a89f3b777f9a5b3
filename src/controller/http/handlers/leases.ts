/** Leases, voters, hosts that are dead, and the settings that leases follow. */
import { present } from '../../../api/present.ts';
import type { leasesRoutes } from '../../../api/routes/leases.ts';
import type { FenceHistoryView, LossPlanView, SiteSettingsView } from '../../../api/schemas.ts';
import { VirgaError } from '../../../core/errors.ts';
import { profiles } from '../../../core/ha/margin.ts';
import { heldBy, whatIfLost } from '../../../core/ha/recovery.ts';
import type { LeaseProfile } from '../../../core/ha/types.ts';
import type { Host } from '../../../core/model/host.ts';
import type { Uuid } from '../../../core/model/resource.ts';
import type { SiteFacts, Snapshot } from '../../../core/model/snapshot.ts';
import { checkReason, invalid } from '../../../core/requests/check.ts';
import { declareDead as recordDeath } from '../../../core/requests/cleanup.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { mayChange, type RequestResult } from '../../../core/requests/result.ts';
import { changeSite, holdSite, releaseSite } from '../../../core/requests/site.ts';
import type { FenceAttempt, FenceDoor } from '../../fence/door.ts';
import type { Call, Handlers } from '../call.ts';
import type { Services } from '../services.ts';
import { knownSnapshot, leaseOf, leasesOf, marginOf, votesOf } from './lease-view.ts';

type LeaseOperation = keyof typeof leasesRoutes;

export function leaseHandlers(services: Services): Handlers<LeaseOperation> {
  const { state } = services;
  const settings = async (
    request: (snapshot: Snapshot) => RequestResult,
  ): Promise<{ readonly value: SiteSettingsView }> => {
    await state.change(request);
    return { value: settingsOf(state.snapshot.site) };
  };
  return {
    'lease.show': () => ({ value: leasesOf(services) }),
    'voter.add': (call) => {
      mayChange(call.context, undefined, 'change the voters');
      leaseOf(services).wishVoters({ add: resolve(state.snapshot, 'host', call.body.host).id });
      return { value: leasesOf(services) };
    },
    'voter.remove': (call) => {
      mayChange(call.context, undefined, 'change the voters');
      leaseOf(services).wishVoters({ remove: voterId(services, call.params.host) });
      return { value: leasesOf(services) };
    },
    'voter.force': async (call) => {
      await forceVoters(services, call);
      return { value: leasesOf(services) };
    },
    'host.declare': async (call) => ({ resource: await declareDead(services, call) }),
    'host.fence': async (call) => ({ value: await fence(services, call) }),
    'host.fencing': (call) => ({ value: fencingOf(services, resolve(state.snapshot, 'host', call.params.host)) }),
    'host.loss': (call) => ({ value: lossOf(services, resolve(state.snapshot, 'host', call.params.host)) }),
    'site.settings': () => ({ value: settingsOf(state.snapshot.site) }),
    'site.set': (call) => settings((at) => changeSite(at, call.body, call.context)),
    'site.hold': (call) => settings((at) => holdSite(at, call.body, call.context)),
    'site.release': (call) => settings((at) => releaseSite(at, call.context)),
  };
}

/** A voter by its name or id, also one that the database does not know, or that nobody can look up now. */
function voterId(services: Services, ref: string): Uuid {
  const voter = leaseOf(services)
    .sight()
    .voters.find((each) => each.keeperId === ref || each.name === ref);
  if (voter) return voter.keeperId;
  const snapshot = knownSnapshot(services);
  if (!snapshot) throw new VirgaError('not_found', { kind: 'voter', name: ref });
  return resolve(snapshot, 'host', ref).id;
}

/**
 * Works from survivors alone: neither database nor majority is asked, since both may be gone with the others. So what is
 * typed again are the survivors: the name of the site may be known to nobody.
 * @throws VirgaError confirmation_required · not_found · timeout
 */
async function forceVoters(services: Services, { body, actor, context }: Call<'voter.force'>): Promise<void> {
  mayChange(context, undefined, 'force the voters');
  checkReason({ ...context, actor: { ...actor, reason: body.reason } });
  if (body.reason.trim() === '') throw invalid('this needs a reason: what happened to the other voters?');
  const word = body.hosts.join(' ');
  if (body.confirm !== word)
    throw new VirgaError('confirmation_required', {
      what: `only ${word} vote from now on; voters that are left out must never come back as they were`,
      how: `type their names, ${word}`,
    });
  const ids = [...new Set(body.hosts.map((each) => voterId(services, each)))];
  await leaseOf(services).forceVoters(ids, { who: actor.who, reason: body.reason });
}

/**
 * The word goes on record first; where the database is away, the voters' disks keep name and reason.
 * @throws VirgaError confirmation_required · invalid_request · host_alive · no_majority · timeout
 */
async function declareDead(services: Services, { params, body, context }: Call<'host.declare'>): Promise<Host> {
  const { state, log } = services;
  const lease = leaseOf(services);
  const request = (at: Snapshot) => recordDeath(at, params.host, body, context);
  const { host } = request(state.snapshot);
  const seen = lease.sight().hosts.find((each) => each.hostId === host.id);
  if (seen?.state === 'held')
    throw new VirgaError('host_alive', {
      name: host.name,
      detail: 'a majority of the voters hears it and grants its lease',
    });
  await state.change(request).catch((error: unknown) => {
    if (!(error instanceof VirgaError) || error.code !== 'store_unavailable') throw error;
    log.warn('a host is declared dead without a record in the database', { host: host.name, who: context.actor.who });
  });
  await lease.declareDead(host.id, { who: context.actor.who, reason: body.reason, kind: 'person' });
  return state.snapshot.get('host', host.id) ?? host;
}

function demandName(given: string | undefined, host: Host, what: string): void {
  if (given !== host.name)
    throw new VirgaError('confirmation_required', {
      what: `${host.name}: ${what}`,
      how: `type its name, ${host.name}`,
    });
}

function fencerOf({ fencer }: Services): FenceDoor {
  if (!fencer) throw new VirgaError('not_leading');
  return fencer;
}

/** Milliseconds; devices are tried one after the other, each with a time-out of its own. */
const fencingMs = 600_000;

async function fence(services: Services, { params, body, context, raw }: Call<'host.fence'>) {
  const host = resolve(services.state.snapshot, 'host', params.host);
  mayChange(context, body.test === true ? undefined : host, `fence the host "${host.name}"`);
  checkReason(context);
  const { who, reason = '' } = context.actor;
  const test = body.test === true;
  if (!test) demandName(body.confirm, host, 'its power is cut');
  if (!test && reason.trim() === '') throw invalid('fencing needs a reason: it goes on record with your name');
  raw.socket.setTimeout(fencingMs);
  const { ok, attempts } = test
    ? await fencerOf(services).test(host.id, who)
    : await fencerOf(services).fence(host.id, who, reason);
  return { host: host.name, test, ok, attempts: attempts.map(attemptView) };
}

const attemptView = ({ at, ...attempt }: FenceAttempt): FenceHistoryView['attempts'][number] => ({
  attemptAt: new Date(at).toISOString(),
  ...attempt,
});

function fencingOf({ fencer }: Services, host: Host): FenceHistoryView {
  const waits = fencer?.waits().get(host.id);
  return {
    host: host.name,
    attempts: (fencer?.history(host.id) ?? []).map(attemptView),
    ...(waits === undefined ? {} : { waits }),
  };
}

/** Milliseconds from the run-out of the grants to the order, beside the margin: a beat, a poll and a commit (measured). */
const decisionMs = 130;

function lossOf(services: Services, host: Host): LossPlanView {
  const { snapshot } = services.state;
  const { profile } = leaseOf(services).sight();
  return {
    host: host.name,
    detectMs: Math.round(profile.lengthMs + marginOf(profile) + decisionMs),
    blockers: blockersOf(services, host),
    guests: whatIfLost(snapshot, host, services.clock.now()).map(({ guest, what, host: to, why }) => ({
      guest,
      what,
      ...(to === undefined ? {} : { host: to }),
      why,
    })),
  };
}

/** Why the host could not be declared lost, or its guests not be started, as things are now. */
function blockersOf(services: Services, host: Host): string[] {
  const sight = leaseOf(services).sight();
  const { hold } = services.state.snapshot.site;
  const others = sight.voters.filter((each) => each.keeperId !== host.id && each.answers);
  const { votes } = votesOf(sight);
  const left = others.reduce((sum, each) => sum + each.votes, 0);
  const blockers: string[] = [];
  if (sight.leadership !== 'leading')
    blockers.push('This controller has no majority of the voters, so it declares nobody lost.');
  if (votes > 0 && left * 2 <= votes)
    blockers.push(
      `Without ${host.name} only ${left} of ${votes} votes would answer: no majority could seal its session, and the guests of the others would freeze.`,
    );
  if (!sight.committing) blockers.push('The database does not take commits: guests would start once it does.');
  if (hold) blockers.push(`Nothing would start: ${heldBy(hold)}.`);
  return blockers;
}

export function settingsOf(site: SiteFacts): SiteSettingsView {
  const { id, name, lease = profiles.default, hold, voters } = site;
  return {
    id,
    name,
    lease: { ...lease },
    leaseProfile: nameOf(lease),
    marginMs: marginOf(lease),
    onHostLeave: site.onHostLeave ?? 'wait',
    lapseGraceSeconds: site.lapseGraceSeconds ?? usualGraceSeconds,
    ...(hold ? { hold: present(hold) } : {}),
    ...(voters ? { votersBegunAt: new Date(voters.begunAt).toISOString() } : {}),
  };
}
const usualGraceSeconds = 5;

function nameOf(lease: LeaseProfile): SiteSettingsView['leaseProfile'] {
  const same = (other: LeaseProfile): boolean =>
    other.lengthMs === lease.lengthMs && other.boundMs === lease.boundMs && other.drift === lease.drift;
  if (same(profiles.default)) return 'default';
  return same(profiles.fast) ? 'fast' : 'own';
}
