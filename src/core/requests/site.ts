/** Settings of the site as a whole, and its hold. */
import { profileProblem, profiles } from '../ha/margin.ts';
import type { LeaseProfile } from '../ha/types.ts';
import type { RequestContext, SiteFacts, Snapshot, Subject } from '../model/snapshot.ts';
import { same, without } from '../util.ts';
import { checkReason, checkText, checkWhole, invalid, limits } from './check.ts';
import type { SiteChange } from './inputs.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

const subjectOf = ({ id, name }: SiteFacts): Subject => ({ kind: 'site', id, name });

/** Errors: `invalid_request` with what is wrong with the figures of the lease. */
export function changeSite(snapshot: Snapshot, input: SiteChange, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'change the settings of the site');
  checkReason(context);
  const { site } = snapshot;
  const lease = input.lease === undefined ? undefined : leaseFrom(site, input.lease);
  const { lapseGraceSeconds, onHostLeave } = input;
  if (lapseGraceSeconds !== undefined)
    checkWhole('the lapse grace in seconds', lapseGraceSeconds, 0, limits.graceSeconds);
  const next: SiteFacts = {
    ...site,
    ...(lease ? { lease } : {}),
    ...(onHostLeave === undefined ? {} : { onHostLeave }),
    ...(lapseGraceSeconds === undefined ? {} : { lapseGraceSeconds }),
  };
  if (same(next, site)) return nothing();
  const draft = new Draft(context);
  draft.site(next);
  draft.event(subjectOf(site), {
    type: 'site.changed',
    message: 'the settings of the site were changed',
    evidence: {
      ...(lease ? { leaseMs: lease.lengthMs, boundMs: lease.boundMs, drift: lease.drift } : {}),
      ...(onHostLeave === undefined ? {} : { onHostLeave }),
      ...(lapseGraceSeconds === undefined ? {} : { lapseGraceSeconds }),
    },
  });
  return draft.finish();
}

function leaseFrom(site: SiteFacts, wish: NonNullable<SiteChange['lease']>): LeaseProfile {
  if (typeof wish === 'string') return profiles[wish];
  const now = site.lease ?? profiles.default;
  const lease = {
    lengthMs: wish.lengthMs ?? now.lengthMs,
    boundMs: wish.boundMs ?? now.boundMs,
    drift: wish.drift ?? now.drift,
  };
  const problem = profileProblem(lease);
  if (problem !== undefined) throw invalid(`the lease: ${problem}`);
  return lease;
}

/** No recovery until it is released. Losses are still found out and recorded. A repeat renews the reason. */
export function holdSite(
  snapshot: Snapshot,
  input: { readonly reason: string },
  context: RequestContext,
): RequestResult {
  mayChange(context, undefined, 'hold the site');
  checkReason(context);
  const reason = input.reason.trim();
  if (reason === '') throw invalid('a hold needs a reason');
  checkText('the reason', reason, limits.reason);
  const { site } = snapshot;
  const { who } = context.actor;
  if (site.hold?.reason === reason && site.hold.who === who) return nothing();
  const draft = new Draft(context);
  draft.site({ ...site, hold: { reason, who, heldAt: context.now } });
  draft.event(subjectOf(site), {
    type: 'site.held',
    severity: 'warning',
    message: `the site is held, guests of lost hosts wait: ${reason}`,
  });
  return draft.finish();
}

export function releaseSite(snapshot: Snapshot, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'release the site');
  checkReason(context);
  const { site } = snapshot;
  if (!site.hold) return nothing();
  const draft = new Draft(context);
  draft.site(without(site, 'hold'));
  draft.event(subjectOf(site), { type: 'site.released', message: 'guests of lost hosts start elsewhere again' });
  return draft.finish();
}
