/** What the handlers of changes have in common. */
import type { Operation } from '../../../api/routes.ts';
import type { Kind, Uuid } from '../../../core/model/resource.ts';
import type { AnyResource, Snapshot } from '../../../core/model/snapshot.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import type { RequestResult } from '../../../core/requests/result.ts';
import { VirgaError } from '../../../core/errors.ts';
import type { Call } from '../call.ts';
import { demandMatch } from '../lists.ts';
import type { Services } from '../services.ts';

type AnyCall = Pick<Call<Operation>, 'ifMatch' | 'context'>;

export interface Changed {
  /** The object as it is now; as it was last, when the change removed it at once. */
  readonly resource: AnyResource;
  readonly gone: boolean;
}

/** Changes one object that is there, unless it has moved on since it was read. */
export async function changeOne(
  services: Services,
  kind: Kind,
  ref: string,
  call: AnyCall,
  request: (snapshot: Snapshot) => RequestResult,
): Promise<Changed> {
  const { state } = services;
  const { result } = taken(
    await state.change((snapshot) => {
      demandMatch(snapshot, kind, ref, call.ifMatch);
      const before = resolve(snapshot, kind, ref);
      return { ...request(snapshot), before };
    }),
  );
  const now = state.snapshot.get(kind, result.before.id);
  return { resource: now ?? lastOf(result.change.put, result.before, call), gone: now === undefined };
}

/** An object that went with the change is shown as it was last, marked as being deleted. */
function lastOf(put: readonly AnyResource[], before: AnyResource, call: AnyCall): AnyResource {
  const last = put.find((each) => each.id === before.id) ?? before;
  return last.deletionAt === undefined ? { ...last, deletionAt: call.context.now } : last;
}

/** Creates objects; a repeat with the same idempotency key finds those of the first time. */
export async function createSome<T extends RequestResult>(
  services: Services,
  call: Pick<Call<Operation>, 'repeat'>,
  kind: Kind,
  request: (snapshot: Snapshot) => T,
): Promise<{ readonly resources: readonly AnyResource[]; readonly result: T | undefined }> {
  const { state } = services;
  const outcome = await state.change(request, call.repeat);
  const created = outcome.repeated ? outcome.created : outcome.result.created;
  const resources = created.flatMap(({ id }: { readonly id: Uuid }) => state.snapshot.get(kind, id) ?? []);
  return { resources, result: outcome.repeated ? undefined : outcome.result };
}

/** The only object of a creation. It may be gone already when the same request comes again. */
export function onlyOne(resources: readonly AnyResource[], kind: Kind): AnyResource {
  const [first] = resources;
  if (!first) throw new VirgaError('not_found', { kind, name: 'what this idempotency key created' });
  return first;
}

/** For changes without an idempotency key: they are never answered as repeats. */
export function taken<T>(outcome: { readonly repeated: boolean; readonly result?: T }): { readonly result: T } {
  if (outcome.result === undefined) throw new TypeError('a change without a key cannot be a repeat');
  return { result: outcome.result };
}
