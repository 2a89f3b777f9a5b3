import Type from 'typebox';
import { Obj, Enum, Opt, Name, Labels, meta } from './common.ts';

const Range = Obj({
  cidr: Type.String({ maxLength: 64 }),
  from: Type.String({ maxLength: 64 }),
  to: Type.String({ maxLength: 64 }),
  gateway: Opt(Type.String({ maxLength: 64 })),
});
const RangeInput = Obj({
  cidr: Type.String({ maxLength: 64 }),
  from: Opt(Type.String({ maxLength: 64 })),
  to: Opt(Type.String({ maxLength: 64 })),
  gateway: Opt(Type.String({ maxLength: 64 })),
});
const Bridge = Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$', description: 'Linux interface name' });
const Mtu = Type.Integer({ minimum: 576, maximum: 65_535 });
const Dns = Type.Array(Type.String({ maxLength: 253 }), { maxItems: 8 });
export const Network = Obj({
  kind: Type.Literal('network'),
  ...meta,
  spec: Obj({
    mode: Enum(['bridge', 'nat']),
    bridge: Bridge,
    ipv4: Opt(Range),
    ipv6: Opt(Range),
    mtu: Opt(Mtu),
    dns: Obj({ servers: Type.Array(Type.String()), search: Type.Array(Type.String()) }),
  }),
  status: Obj({ problems: Type.Array(Obj({ host: Type.String(), message: Type.String() })) }),
});
export const AddNetwork = Obj({
  name: Name,
  mode: Enum(['bridge', 'nat'], 'bridge: an existing bridge of the hosts; nat: a bridge and NAT that Virga makes'),
  bridge: Opt(Bridge),
  ipv4: Opt(RangeInput),
  ipv6: Opt(RangeInput),
  mtu: Opt(Mtu),
  dns: Opt(Obj({ servers: Opt(Dns), search: Opt(Dns) })),
  labels: Opt(Labels),
  origin: Opt(Name),
});
