import { present } from '../../../api/present.ts';
import type { siteRoutes } from '../../../api/routes/site.ts';
import { VirgaError } from '../../../core/errors.ts';
import { kinds, type Uuid } from '../../../core/model/resource.ts';
import type { Snapshot } from '../../../core/model/snapshot.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { finishReview } from '../../../core/requests/review.ts';
import type { Handlers } from '../call.ts';
import type { Services } from '../services.ts';
import { demandSince, follow, parseKinds, startOf, watch } from '../sse.ts';
import { decideReview, reviewOf } from './review.ts';
import { statusOf } from './status.ts';

const usualEvents = 100;

export function siteHandlers(services: Services): Handlers<keyof typeof siteRoutes> {
  const { state, store } = services;
  return {
    'site.status': () => ({ value: statusOf(services) }),
    'site.events': async (call) => {
      const { after, limit, subject, type } = call.query;
      const events = await store.events({
        limit: limit ?? usualEvents,
        ...(after === undefined ? {} : { afterSeq: after }),
        ...(subject === undefined ? {} : { subjectId: subjectOf(state.snapshot, subject) }),
        ...(type === undefined ? {} : { type }),
      });
      return { value: { items: events.map((each) => present(each)) } };
    },
    'site.follow': async (call) => {
      const { after, subject, type } = call.query;
      const subjectId = subject === undefined ? undefined : subjectOf(state.snapshot, subject);
      const given = startOf(call.headers['last-event-id'], after);
      const start = given ?? (await store.events({ limit: 1 })).at(-1)?.seq ?? 0;
      return { follow: async (channel) => follow(services, channel, start, { subjectId, type }) };
    },
    'site.watch': (call) => {
      const wanted = parseKinds(call.query.kinds);
      if (
        call.actor.role !== 'admin' &&
        call.query.kinds !== undefined &&
        (wanted.has('token') || wanted.has('invite'))
      )
        throw new VirgaError('forbidden', { who: call.actor.who, action: 'watch tokens and invitations' });
      // Tokens and invitations are for administrators, as their lists are.
      const seen = new Set(
        [...wanted].filter((each) => call.actor.role === 'admin' || !['token', 'invite'].includes(each)),
      );
      const since = startOf(call.headers['last-event-id'], call.query.since) ?? state.snapshot.revision;
      demandSince(state, since);
      return { follow: async (channel) => watch(state, channel, since, seen) };
    },
    'site.review': () => ({ value: reviewOf(state.snapshot) }),
    'site.decide': async (call) => {
      await decideReview(services, call.body, call.context);
      return { value: reviewOf(state.snapshot) };
    },
    'site.reviewed': async (call) => {
      await state.change((snapshot) => finishReview(snapshot, call.context));
      return { value: reviewOf(state.snapshot) };
    },
    'site.backup': async (call) => {
      const { stream, sizeBytes, fileName, secretsLeftOut } = await services.backup(call.body);
      return {
        stream,
        type: 'application/octet-stream',
        headers: {
          'content-length': String(sizeBytes),
          'content-disposition': `attachment; filename="${fileName}"`,
          'virga-secrets-left-out': secretsLeftOut.join(','),
        },
      };
    },
  };
}

/** The id behind a name of any kind; a UUID may be of something that is gone. */
function subjectOf(snapshot: Snapshot, ref: string): Uuid {
  for (const kind of kinds) {
    const found = snapshot.byName(kind, ref) ?? snapshot.get(kind, ref);
    if (found) return found.id;
  }
  if (ref === snapshot.site.name || ref === snapshot.site.id) return snapshot.site.id;
  if (/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(ref)) return ref;
  return resolve(snapshot, 'guest', ref).id;
}
