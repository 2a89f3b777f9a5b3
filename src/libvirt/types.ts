/** The compound types of libvirt's protocol, under libvirt's own names minus `remote_nonnull_`. */
import { LibvirtError } from './errors.ts';
import { double, hyper, int, list, optional, str, struct, uhyper, uint, type Codec, type Value } from './schema.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** opaque[16] on the wire, the usual 36 characters (lower case) here. */
export const uuid: Codec<string> = {
  min: 16,
  encode: (to, value) => {
    if (!UUID.test(value)) throw LibvirtError.argument(`not a UUID: ${JSON.stringify(value)}`);
    to.fixed(Buffer.from(value.replaceAll('-', ''), 'hex'));
  },
  decode: (from) => {
    const hex = from.fixed(16).toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  },
};

/** id: -1 where the domain is not running. The daemon resolves by uuid; name and id may be stale. */
export const dom = struct({ name: str, uuid, id: int });
export const net = struct({ name: str, uuid });
export const pool = struct({ name: str, uuid });
export const nwfilter = struct({ name: str, uuid });
export const vol = struct({ pool: str, name: str, key: str });
export const secret = struct({ uuid, usageType: int, usageID: str });
export const snap = struct({ name: str, dom });
export const checkpoint = struct({ name: str, dom });
export const nodeDevice = struct({ name: str });
export const keyValue = struct({ field: str, value: uhyper });
export const memoryStat = struct({ tag: int, val: uhyper });
export const fsInfo = struct({ mountpoint: str, name: str, fstype: str, devAliases: list(str) });
/** type: 0 IPv4, 1 IPv6. */
export const ipAddress = struct({ type: int, addr: str, prefix: uint });
export const iface = struct({ name: str, hwaddr: optional(str), addrs: list(ipAddress) });
export const lease = struct({
  iface: str,
  expiry: hyper,
  type: int,
  mac: optional(str),
  iaid: optional(str),
  ip: str,
  prefix: uint,
  hostname: optional(str),
  clientid: optional(str),
});

/** The body of a reply, or of a stream packet, whose status is an error. */
export const wireError = struct({
  code: int,
  domain: int,
  message: optional(str),
  level: int,
  dom: optional(dom),
  str1: optional(str),
  str2: optional(str),
  str3: optional(str),
  int1: int,
  int2: int,
  net: optional(net),
});

const boolean: Codec<boolean> = {
  min: 4,
  encode: (to, value) => to.int(value ? 1 : 0),
  decode: (from) => from.int() !== 0,
};

/** How the value of each type of parameter travels. */
const PARAM_VALUES = { int, uint, llong: hyper, ullong: uhyper, double, boolean, string: str };
/** The types by their wire number (virTypedParameterType); 0 is none. */
const PARAM_TYPES = [undefined, 'int', 'uint', 'llong', 'ullong', 'double', 'boolean', 'string'] as const;
type ParamType = keyof typeof PARAM_VALUES;

/** A typed parameter. The same field name may occur more than once in a list of them. */
export type Param = {
  [T in ParamType]: { readonly field: string; readonly type: T; readonly value: Value<(typeof PARAM_VALUES)[T]> };
}[ParamType];

export const param: Codec<Param> = {
  min: 12,
  encode: (to, value) => {
    const codec: Codec<unknown> = PARAM_VALUES[value.type];
    to.string(value.field);
    to.int(PARAM_TYPES.indexOf(value.type));
    codec.encode(to, value.value);
  },
  decode: (from) => {
    const field = from.string();
    const number = from.int();
    const type = PARAM_TYPES[number];
    if (type === undefined) throw LibvirtError.protocol(`typed parameter ${field} of unknown type ${number}`);
    return { field, type, value: PARAM_VALUES[type].decode(from) } as Param;
  },
};

export const statsRecord = struct({ dom, params: list(param) });

export type Dom = Value<typeof dom>;
export type Net = Value<typeof net>;
export type Pool = Value<typeof pool>;
export type Vol = Value<typeof vol>;
export type Snap = Value<typeof snap>;
export type Iface = Value<typeof iface>;
export type IpAddress = Value<typeof ipAddress>;
export type WireError = Value<typeof wireError>;
