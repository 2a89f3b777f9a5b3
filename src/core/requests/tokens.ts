import type { Invite, Token } from '../model/access.ts';
import type { Instant, Uuid } from '../model/resource.ts';
import type { Change, RequestContext, Snapshot } from '../model/snapshot.ts';
import { noChange } from '../model/snapshot.ts';
import { checkFreeName, checkName, checkReason, checkWhole, newMeta } from './check.ts';
import type { InviteInput, TokenInput } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange } from './result.ts';

const day = 86_400;
const tokenSeconds = { usual: 90 * day, most: 366 * day };
const inviteSeconds = { usual: 3600, most: 30 * day };
const minute = 60_000;

/** `secretHash`: SHA-256 (hex) of the secret, which the caller makes and shows once. */
export function createToken(
  snapshot: Snapshot,
  input: TokenInput,
  secretHash: string,
  context: RequestContext,
): RequestResult {
  mayChange(context, undefined, 'create tokens');
  checkFreeName(snapshot, 'token', input.name);
  const seconds = input.validSeconds ?? tokenSeconds.usual;
  checkWhole('the time of validity in seconds', seconds, 1, tokenSeconds.most);
  const role = input.role ?? 'admin';
  const token: Token = {
    ...newMeta(context, context.uuid(), input.name),
    kind: 'token',
    spec: { secretHash, role, expiresAt: context.now + seconds * 1000 },
    status: {},
  };
  const draft = new Draft(context);
  draft.create(token);
  draft.event(token, { type: 'token.created', message: `the token ${input.name} was created (${role})` });
  return draft.finish();
}

export function revokeToken(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const token = resolve(snapshot, 'token', ref);
  mayChange(context, token, `revoke the token "${token.name}"`);
  checkReason(context);
  const draft = new Draft(context);
  draft.remove(token);
  draft.event(token, { type: 'token.revoked', message: `the token ${token.name} was revoked` });
  return draft.finish();
}

/** Notes the use of a token, once a minute at most. */
export function tokenUsed(snapshot: Snapshot, id: Uuid, now: Instant): Change {
  const token = snapshot.get('token', id);
  const lastUsedAt = Math.floor(now / minute) * minute;
  if (!token || (token.status.lastUsedAt ?? 0) >= lastUsedAt) return noChange;
  return { put: [{ ...token, status: { lastUsedAt } }], remove: [], events: [] };
}

/** `secretHash`: SHA-256 (hex) of the secret part of the invitation. */
export function createInvite(
  snapshot: Snapshot,
  input: InviteInput,
  secretHash: string,
  context: RequestContext,
): RequestResult {
  mayChange(context, undefined, 'invite hosts');
  const { hostName } = input;
  if (hostName !== undefined) checkFreeName(snapshot, 'host', hostName);
  const seconds = input.validSeconds ?? inviteSeconds.usual;
  checkWhole('the time of validity in seconds', seconds, 1, inviteSeconds.most);
  const id = context.uuid();
  const name = `invite-${id.replaceAll('-', '').slice(-12)}`;
  checkName('invite', name);
  const invite: Invite = {
    ...newMeta(context, id, name),
    kind: 'invite',
    spec: {
      secretHash,
      expiresAt: context.now + seconds * 1000,
      ...(hostName === undefined ? {} : { hostName }),
      ...(input.role === 'witness' ? { role: input.role } : {}),
    },
    status: {},
  };
  const draft = new Draft(context);
  draft.create(invite);
  draft.event(invite, {
    type: 'invite.created',
    message: `a ${input.role ?? 'host'} was invited${hostName ? ` as ${hostName}` : ''}`,
  });
  return draft.finish();
}

export function revokeInvite(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const invite = resolve(snapshot, 'invite', ref);
  mayChange(context, invite, `take back the invitation "${invite.name}"`);
  checkReason(context);
  const draft = new Draft(context);
  draft.remove(invite);
  draft.event(invite, { type: 'invite.revoked', message: `the invitation ${invite.name} was taken back` });
  return draft.finish();
}
