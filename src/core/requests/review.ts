import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { without } from '../util.ts';
import { checkReason } from './check.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

/** A person has looked at the restored state: from now on things may be destroyed again. */
export function finishReview(snapshot: Snapshot, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'finish the review');
  checkReason(context);
  const { site } = snapshot;
  if (!site.review) return nothing();
  const draft = new Draft(context);
  draft.site(without(site, 'review'));
  draft.event(
    { kind: 'site', id: site.id, name: site.name },
    { type: 'site.reviewed', message: 'the review of the restored state was finished' },
  );
  return draft.finish();
}
