/**
 * The language in which the protocol is described: codecs that are values, so that one description gives the
 * encoder, the decoder and the TypeScript types. `types.ts` and `procedures.ts` are written in it.
 */
import { LibvirtError } from './errors.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

/** How one type travels. `min`: the fewest bytes a value takes, which bounds hostile list lengths. */
export interface Codec<T> {
  readonly min: number;
  encode(to: XdrWriter, value: T): void;
  decode(from: XdrReader): T;
}

/** A codec whose value may be left out of a call's arguments; `absent` is sent then. */
export interface OptionalCodec<T> extends Codec<T> {
  readonly absent: T;
}

/** The TypeScript type of a codec. */
export type Value<C> = C extends Codec<infer T> ? T : never;

/** Named codecs, in wire order. */
export type Fields = Readonly<Record<string, Codec<unknown>>>;

/** A decoded struct. */
export type Struct<F extends Fields> = { readonly [K in keyof F]: Value<F[K]> };

type AbsentKeys<F extends Fields> = { [K in keyof F]: F[K] extends OptionalCodec<unknown> ? K : never }[keyof F];

/** Arguments of a call: what has a default may be left out. */
export type Args<F extends Fields> = { readonly [K in Exclude<keyof F, AbsentKeys<F>>]: Value<F[K]> } & {
  readonly [K in AbsentKeys<F>]?: Value<F[K]> | undefined;
};

/** Most items of any list (libvirt's own largest bound, of stats parameters). */
const MAX_ITEMS = 262_144;

function integer(min: number, max: number): Codec<number> {
  return {
    min: 4,
    encode: (to, value) => to.int(value, min, max),
    decode: (from) => {
      const value = from.int();
      if (value < min || value > max) throw LibvirtError.protocol(`${value} is not between ${min} and ${max}`);
      return value;
    },
  };
}

export const int: Codec<number> = integer(-0x8000_0000, 0x7fff_ffff);
/** The small integers take four bytes each on the wire. */
export const char: Codec<number> = integer(-128, 127);
export const uchar: Codec<number> = integer(0, 255);
export const ushort: Codec<number> = integer(0, 65_535);
export const uint: Codec<number> = { min: 4, encode: (to, value) => to.uint(value), decode: (from) => from.uint() };
export const hyper: Codec<bigint> = { min: 8, encode: (to, value) => to.hyper(value), decode: (from) => from.hyper() };
export const uhyper: Codec<bigint> = {
  min: 8,
  encode: (to, value) => to.uhyper(value),
  decode: (from) => from.uhyper(),
};
export const double: Codec<number> = {
  min: 8,
  encode: (to, value) => to.double(value),
  decode: (from) => from.double(),
};
export const str: Codec<string> = { min: 4, encode: (to, value) => to.string(value), decode: (from) => from.string() };

/** Bit flags: an unsigned integer that is 0 where a call leaves it out. */
export const flags: OptionalCodec<number> = { ...uint, absent: 0 };

/** Any bytes up to a bound; decoded as a copy, so that a small value does not keep a large message alive. */
export function opaque(maxBytes: number): Codec<Uint8Array> {
  return {
    min: 4,
    encode: (to, value) => to.opaque(value, maxBytes),
    decode: (from) => Uint8Array.from(from.opaque(maxBytes)),
  };
}

/** A C string in a fixed array of chars, each of which takes four bytes. */
export function chars(length: number): Codec<string> {
  return {
    min: length * 4,
    encode: (to, value) => {
      const bytes = Buffer.from(value, 'latin1');
      if (bytes.length >= length) throw LibvirtError.argument(`text longer than ${length - 1} characters`);
      for (let index = 0; index < length; index += 1) to.int(bytes[index] ?? 0);
    },
    decode: (from) => {
      const codes = Array.from({ length }, () => from.int() & 0xff);
      const end = codes.indexOf(0);
      return String.fromCharCode(...codes.slice(0, end < 0 ? length : end));
    },
  };
}

/** A list with a count in front. */
export function list<T>(item: Codec<T>): Codec<readonly T[]> {
  return {
    min: 4,
    encode: (to, values) => {
      if (values.length > MAX_ITEMS) throw LibvirtError.argument(`a list of more than ${MAX_ITEMS} items`);
      to.uint(values.length);
      for (const value of values) item.encode(to, value);
    },
    decode: (from) => {
      const count = from.count(MAX_ITEMS, item.min);
      const values: T[] = [];
      for (let index = 0; index < count; index += 1) values.push(item.decode(from));
      return values;
    },
  };
}

/** A value that may be missing: `null`. */
export function optional<T>(item: Codec<T>): OptionalCodec<T | null> {
  return {
    min: 4,
    absent: null,
    encode: (to, value) => {
      to.uint(value === null ? 0 : 1);
      if (value !== null) item.encode(to, value);
    },
    decode: (from) => (presence(from) ? item.decode(from) : null),
  };
}

function presence(from: XdrReader): boolean {
  const value = from.uint();
  if (value > 1) throw LibvirtError.protocol(`${value} where 0 (missing) or 1 (present) is due`);
  return value === 1;
}

/** Fields one after the other. */
export function struct<F extends Fields>(fields: F): Codec<Struct<F>> {
  const entries = Object.entries(fields);
  return {
    min: entries.reduce((sum, [, codec]) => sum + codec.min, 0),
    encode: (to, value) => {
      const record: Readonly<Record<string, unknown>> = value;
      for (const [name, codec] of entries) encodeField(to, name, codec, record[name]);
    },
    decode: (from) => {
      const record: Record<string, unknown> = {};
      for (const [name, codec] of entries) record[name] = codec.decode(from);
      return record as Struct<F>;
    },
  };
}

function encodeField(to: XdrWriter, name: string, codec: Codec<unknown>, given: unknown): void {
  const value = given === undefined && 'absent' in codec ? codec.absent : given;
  if (value === undefined) throw LibvirtError.argument(`the argument ${name} is missing`);
  codec.encode(to, value);
}

/** Which way the bytes of a procedure's stream go, seen from the client. */
export type StreamDirection = 'read' | 'write' | 'both';

/** A procedure: its numbers, arguments and result. */
export interface Procedure<A extends Fields = Fields, R extends Fields = Fields, S = StreamDirection | undefined> {
  readonly program: number;
  readonly number: number;
  readonly encodeArgs: (to: XdrWriter, value: Args<A>) => void;
  readonly result: Codec<Struct<R>>;
  readonly stream: S;
}

/** Gives the describer of one program's procedures. */
export function procedures(program: number) {
  return <
    A extends Fields,
    R extends Fields = Record<string, never>,
    S extends StreamDirection | undefined = undefined,
  >(
    number: number,
    args: A,
    result?: R,
    stream?: S,
  ): Procedure<A, R, S> => {
    const encoder = struct(args);
    return {
      program,
      number,
      encodeArgs: (to, value) => encoder.encode(to, value as Struct<A>),
      result: struct(result ?? ({} as R)),
      stream: stream as S,
    };
  };
}

/** Decodes one whole message body. @throws LibvirtError (protocol) where it does not fit exactly. */
export function decodeAll<T>(bytes: Buffer, codec: Codec<T>): T {
  const reader = new XdrReader(bytes);
  const value = codec.decode(reader);
  reader.end();
  return value;
}

/** Encodes one message body. @throws LibvirtError (argument) for values that do not fit. */
export function encodeAll(maxBytes: number, encode: (to: XdrWriter) => void): Buffer {
  const writer = new XdrWriter(maxBytes);
  encode(writer);
  return writer.bytes();
}
