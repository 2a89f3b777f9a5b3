import { VirgaError } from '../errors.ts';
import { described, reorder } from '../guest-orders.ts';
import type { Guest } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import { isGone } from '../model/host.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { without } from '../util.ts';
import { checkReason, checkText, invalid, limits } from './check.ts';
import { hostOf } from './actions.ts';
import type { DeclareDeadInput } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

/**
 * Ends that a guest was given up after too many restarts or moves: the counts begin anew, and it is started if it should
 * be on. Nothing for a guest that was not given up.
 */
export function cleanupGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = resolve(snapshot, 'guest', ref);
  mayChange(context, guest, `change the guest "${guest.name}"`);
  checkReason(context);
  const { spec, status, deletionAt } = guest;
  if (!status.exhausted || deletionAt !== undefined) return nothing();
  if (spec.held) throw new VirgaError('held', { name: guest.name, reason: spec.held.reason });
  const clean: Guest = { ...guest, status: without(status, 'exhausted', 'movedAt', 'restartedAt') };
  // The rise of the counter asks for a start, whatever the host has tried before.
  const next = reorder(clean, { ...spec, startSeq: spec.startSeq + 1 }, snapshot.site.epoch);
  const draft = new Draft(context);
  draft.put(described(next, hostOf(snapshot, guest), context.now));
  draft.event(guest, {
    type: 'guest.cleanup',
    message: `${guest.name} is tried anew`,
    evidence: { what: status.exhausted.what },
  });
  return draft.finish();
}

/**
 * A person's word that a host is dead, checked and put on record. It alone makes nobody lost: the seal at the voters does
 * (`LeaseDoor.declareDead`, host-lease, rule 15). Errors: `confirmation_required`, `invalid_request` without a reason,
 * `reason_required`. Nothing for a host that is lost already.
 */
export function declareDead(
  snapshot: Snapshot,
  ref: string,
  input: DeclareDeadInput,
  context: RequestContext,
): RequestResult & { readonly host: Host } {
  const host = resolve(snapshot, 'host', ref);
  const reason = (input.reason ?? context.actor.reason ?? '').trim();
  const spoken: RequestContext = { ...context, actor: { ...context.actor, reason } };
  mayChange(spoken, host, `declare the host "${host.name}" dead`);
  if (reason === '') throw invalid('this needs a reason: what makes you sure that nothing runs there any more?');
  checkText('the reason', reason, limits.reason);
  if (input.confirm !== host.name)
    throw new VirgaError('confirmation_required', {
      what: `${host.name} is taken for dead and its guests start elsewhere; if they still run there, their data may be damaged`,
      how: `type its name, ${host.name}`,
    });
  if (isGone(host)) return { ...nothing(), host };
  const draft = new Draft(spoken);
  draft.event(host, {
    type: 'host.declared-dead',
    severity: 'warning',
    message: `${host.name} was declared dead: ${reason}`,
    evidence: { state: host.status.state },
  });
  return { ...draft.finish(), host };
}
