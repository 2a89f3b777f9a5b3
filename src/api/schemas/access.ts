import Type from 'typebox';
import { Obj, Enum, Opt, Name, At, Id, meta } from './common.ts';
import { HostRole } from './hosts.ts';

const Role = Enum(['admin', 'read']);
export const Token = Obj({
  kind: Type.Literal('token'),
  ...meta,
  spec: Obj({ role: Role, expiresAt: At }),
  status: Obj({ lastUsedAt: Opt(At) }),
});
export const AddToken = Obj({
  name: Name,
  role: Opt(Role),
  validSeconds: Opt(Type.Integer({ minimum: 60, maximum: 366 * 86_400 })),
});
export const TokenMade = Obj({ token: Token, secret: Type.String({ description: 'Shown once, never kept' }) });
export const Invite = Obj({
  kind: Type.Literal('invite'),
  ...meta,
  spec: Obj({ expiresAt: At, hostName: Opt(Name), role: Opt(HostRole) }),
  status: Obj({ usedAt: Opt(At), hostId: Opt(Id) }),
});
export const AddInvite = Obj({
  hostName: Opt(Name),
  role: Opt(HostRole),
  validSeconds: Opt(Type.Integer({ minimum: 60, maximum: 7 * 86_400 })),
});
export const InviteMade = Obj({
  invite: Invite,
  secret: Type.String({ description: 'Shown once; it pins the site’s certificate authority' }),
  urls: Type.Array(Type.String({ description: 'Where agents reach this controller' })),
});
