/**
 * Datagrams, big endian. All begin with `V`, and carry the ids of sender (`from`) and receiver (`to`), 16 bytes each.
 *
 *   hello   0 'V' · 1 type 1 · 2 flags · 3 zero · 4 run (8) · 12 ask (8) · 20 echo (8) · 28 from · 44 to ·
 *           60 length of the certificate (2) · certificate (DER) · MAC (16), zeros while the sender knows no key
 *   sealed  0 'V' · 1 type 2 · 2 way · 3 form · 4 tag of the key (8) · 12 counter (6) · 18 zero (2) ·
 *           20 stamp (4) · 24 echoed stamp (4) · 28 from · 44 to · 60 JSON (form 0: plain, 1: DEFLATE) · MAC (16)
 *
 * MACs are HMAC-SHA-256 over all before them, cut to 16 bytes (RFC 2104, 5).
 */
import { createHmac, type KeyObject } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Uuid } from '../../core/model/resource.ts';
import type { SessionKey } from './identity.ts';

export const maxDatagramBytes = 60_000;
export const headBytes = 60;
const macBytes = 16;
const magic = 0x56;
const helloType = 1;
const sealedType = 2;
const wantsFlag = 1;
const plainForm = 0;
const deflatedForm = 1;
/** Longer messages (what a voter says of many hosts) are deflated: unpacked, they would not fit in a datagram. */
const deflateBytes = 4096;
/** Most that a message may be inflated to. */
const maxMessageBytes = 1024 * 1024;

/** The sender's way is an index of the receiver's addresses; an answer repeats it with this bit. */
export const answerBit = 0x80;

export interface Hello {
  readonly type: 'hello';
  readonly from: Uuid;
  readonly to: Uuid;
  /** Random per start of the sender, hexadecimal. */
  readonly run: string;
  /** A fresh number of the sender, to be echoed. */
  readonly ask: string;
  /** The receiver's number that is echoed; zeros: none. */
  readonly echo: string;
  /** The sender wants a hello that echoes its number. */
  readonly wants: boolean;
  readonly certificate: Buffer;
}

export interface Sealed {
  readonly type: 'sealed';
  readonly way: number;
  readonly tag: string;
  readonly counter: number;
  /** Sender's clock in tenths of milliseconds, modulo 2^32. */
  readonly stamp: number;
  /** The receiver's stamp that this answers; 0: none. */
  readonly echoed: number;
}

export const noNumber = '0'.repeat(16);

/** @throws TypeError for anything but a UUID */
export function idBytes(id: Uuid): Buffer {
  const bytes = Buffer.from(id.replaceAll('-', ''), 'hex');
  if (bytes.length !== 16) throw new TypeError(`not a UUID: ${id}`);
  return bytes;
}

function readId(bytes: Buffer, at: number): Uuid {
  const hex = bytes.toString('hex', at, at + 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** HMAC over all but the last 16 bytes; what follows its first 16 bytes is not used. */
function macOf(bytes: Buffer, key: KeyObject): Buffer {
  return createHmac('sha256', key)
    .update(bytes.subarray(0, bytes.length - macBytes))
    .digest();
}

/** True when the datagram ends with the MAC of the key. Takes the same time wherever the two differ. */
export function authentic(bytes: Buffer, key: KeyObject): boolean {
  const mac = macOf(bytes, key);
  const end = bytes.length - macBytes;
  let difference = 0;
  for (let at = 0; at < macBytes; at += 1) difference |= (mac[at] ?? 0) ^ (bytes[end + at] ?? 0);
  return difference === 0;
}

export function encodeHello(hello: Omit<Hello, 'type'>, key: KeyObject | undefined): Buffer {
  const { certificate } = hello;
  const bytes = Buffer.alloc(headBytes + 2 + certificate.length + macBytes);
  bytes[0] = magic;
  bytes[1] = helloType;
  bytes[2] = hello.wants ? wantsFlag : 0;
  bytes.write(hello.run, 4, 'hex');
  bytes.write(hello.ask, 12, 'hex');
  bytes.write(hello.echo, 20, 'hex');
  idBytes(hello.from).copy(bytes, 28);
  idBytes(hello.to).copy(bytes, 44);
  bytes.writeUInt16BE(certificate.length, headBytes);
  certificate.copy(bytes, headBytes + 2);
  if (key) macOf(bytes, key).copy(bytes, bytes.length - macBytes, 0, macBytes);
  return bytes;
}

/**
 * @param ends ids of sender and receiver, one after the other
 * @throws RangeError when the message does not fit in a datagram
 */
export function encodeSealed(
  head: Omit<Sealed, 'type' | 'tag'>,
  ends: Buffer,
  json: Buffer,
  { key, tag }: SessionKey,
): Buffer {
  const deflated = json.length > deflateBytes;
  const body = deflated ? deflateRawSync(json, { level: 1 }) : json;
  const length = headBytes + body.length + macBytes;
  if (length > maxDatagramBytes || json.length > maxMessageBytes)
    throw new RangeError(`a message of ${json.length} bytes fits in no datagram`);
  const bytes = Buffer.allocUnsafe(length);
  bytes[0] = magic;
  bytes[1] = sealedType;
  bytes[2] = head.way;
  bytes[3] = deflated ? deflatedForm : plainForm;
  bytes.write(tag, 4, 'latin1');
  bytes.writeUIntBE(head.counter, 12, 6);
  bytes.writeUInt16BE(0, 18);
  bytes.writeUInt32BE(head.stamp, 20);
  bytes.writeUInt32BE(head.echoed, 24);
  ends.copy(bytes, 28);
  body.copy(bytes, headBytes);
  macOf(bytes, key).copy(bytes, length - macBytes, 0, macBytes);
  return bytes;
}

/** Who says to have sent a datagram of ours, and to whom. */
export function endsOf(bytes: Buffer): { readonly from: Uuid; readonly to: Uuid } {
  return { from: readId(bytes, 28), to: readId(bytes, 44) };
}

/** True when the datagram names these ends: ids of sender and receiver, one after the other. */
export function isBetween(bytes: Buffer, ends: Buffer): boolean {
  return bytes.compare(ends, 0, 32, 28, headBytes) === 0;
}

/** True when the datagram is for the holder of this id. */
export function isFor(bytes: Buffer, id: Buffer): boolean {
  return bytes.compare(id, 0, 16, 44, headBytes) === 0;
}

/** What the datagram says it is, nothing of it proven; undefined: not one of ours. */
export function decode(bytes: Buffer): Hello | Sealed | undefined {
  if (bytes.length < headBytes + 2 + macBytes || bytes.length > maxDatagramBytes || bytes[0] !== magic)
    return undefined;
  if (bytes[1] === sealedType)
    return {
      type: 'sealed',
      way: bytes[2] ?? 0,
      tag: bytes.toString('latin1', 4, 12),
      counter: bytes.readUIntBE(12, 6),
      stamp: bytes.readUInt32BE(20),
      echoed: bytes.readUInt32BE(24),
    };
  if (bytes[1] !== helloType) return undefined;
  const length = bytes.readUInt16BE(headBytes);
  if (headBytes + 2 + length + macBytes !== bytes.length) return undefined;
  return {
    type: 'hello',
    ...endsOf(bytes),
    run: bytes.toString('hex', 4, 12),
    ask: bytes.toString('hex', 12, 20),
    echo: bytes.toString('hex', 20, 28),
    wants: ((bytes[2] ?? 0) & wantsFlag) !== 0,
    certificate: bytes.subarray(headBytes + 2, headBytes + 2 + length),
  };
}

/** The JSON of an authentic sealed datagram; undefined: it is of a form that we do not know, or too much. */
export function payloadOf(bytes: Buffer): string | undefined {
  const end = bytes.length - macBytes;
  if (bytes[3] === plainForm) return bytes.toString('utf8', headBytes, end);
  if (bytes[3] !== deflatedForm) return undefined;
  try {
    const body = bytes.subarray(headBytes, end);
    return inflateRawSync(body, { maxOutputLength: maxMessageBytes }).toString('utf8');
  } catch {
    return undefined;
  }
}
