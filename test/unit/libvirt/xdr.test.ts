import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LibvirtError } from '../../../src/libvirt/errors.ts';
import { Params } from '../../../src/libvirt/params.ts';
import { PROCEDURES } from '../../../src/libvirt/procedures.ts';
import {
  char,
  chars,
  decodeAll,
  double,
  encodeAll,
  hyper,
  int,
  list,
  opaque,
  optional,
  str,
  struct,
  uchar,
  uhyper,
  uint,
  ushort,
  type Codec,
} from '../../../src/libvirt/schema.ts';
import { dom, param, uuid, wireError, type Param } from '../../../src/libvirt/types.ts';
import { hex } from './bytes.ts';

const DOM = `
  00000004 74657374                  # name: 4 bytes, "test"
  6695eb01f6a4830479aa97f2502e193f   # uuid: 16 bytes, no length
  ffffffff                           # id: -1, not running
`;

function encoded<T>(codec: Codec<T>, value: T): Buffer {
  return Buffer.from(encodeAll(1024, (to) => codec.encode(to, value)));
}

function isProtocolError(error: unknown): boolean {
  return error instanceof LibvirtError && error.kind === 'protocol' && error.codeName === 'PROTOCOL';
}

test('a domain reference', () => {
  const value = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: -1 };
  assert.deepEqual(decodeAll(hex(DOM), dom), value);
  assert.deepEqual(encoded(dom, value), hex(DOM));
});

test('strings are padded to four bytes, and counted in bytes', () => {
  assert.deepEqual(encoded(str, 'aé'), hex('00000003 61 c3a9 00'));
  assert.equal(decodeAll(hex('00000003 61 c3a9 00'), str), 'aé');
  assert.deepEqual(encoded(str, ''), hex('00000000'));
});

test('small integers take four bytes each', () => {
  const info = struct({ type: char, state: uchar, cpus: ushort });
  const wire = hex(`
    ffffffff  # type: char -1
    000000ff  # state: unsigned char 255
    0000ffff  # cpus: unsigned short 65535
  `);
  assert.deepEqual(decodeAll(wire, info), { type: -1, state: 255, cpus: 65_535 });
  assert.deepEqual(encoded(info, { type: -1, state: 255, cpus: 65_535 }), wire);
  assert.throws(() => decodeAll(hex('00000100'), uchar), isProtocolError);
  assert.throws(() => encoded(uchar, 256), /no integer between 0 and 255/);
});

test('char[32] is 128 bytes; the text ends at the first zero', () => {
  const wire = Buffer.concat([hex('00000078 00000038 00000036 00000000 00000041'), Buffer.alloc(27 * 4)]);
  assert.equal(wire.length, 128);
  assert.equal(decodeAll(wire, chars(32)), 'x86');
  assert.throws(() => decodeAll(wire.subarray(0, 32), chars(32)), isProtocolError, '32 bytes are not enough');
  assert.equal(decodeAll(encoded(chars(32), 'x86_64'), chars(32)), 'x86_64');
});

test('typed parameters of every type, and names that repeat', () => {
  const wire = hex(`
    00000008                                     # 8 parameters
    00000001 61000000 00000001 ffffffff          # "a" int -1
    00000001 62000000 00000002 ffffffff          # "b" uint 4294967295
    00000001 63000000 00000003 ffffffffffffffff  # "c" llong -1
    00000001 64000000 00000004 ffffffffffffffff  # "d" ullong 2^64-1
    00000001 65000000 00000005 3ff8000000000000  # "e" double 1.5
    00000001 66000000 00000006 00000001          # "f" boolean true
    00000001 67000000 00000007 00000003 76646100 # "g" string "vda"
    00000001 67000000 00000007 00000003 76646200 # "g" string "vdb", again
  `);
  const values: Param[] = [
    { field: 'a', type: 'int', value: -1 },
    { field: 'b', type: 'uint', value: 4_294_967_295 },
    { field: 'c', type: 'llong', value: -1n },
    { field: 'd', type: 'ullong', value: 18_446_744_073_709_551_615n },
    { field: 'e', type: 'double', value: 1.5 },
    { field: 'f', type: 'boolean', value: true },
    { field: 'g', type: 'string', value: 'vda' },
    { field: 'g', type: 'string', value: 'vdb' },
  ];
  assert.deepEqual(decodeAll(wire, list(param)), values);
  assert.deepEqual(encoded(list(param), values), wire);
  const params = new Params(values);
  assert.deepEqual(params.all('g'), ['vda', 'vdb']);
  assert.equal(params.text('g'), 'vda');
  assert.deepEqual(params.names(), ['a', 'b', 'c', 'd', 'e', 'f', 'g']);
  assert.equal(params.bigint('d'), 18_446_744_073_709_551_615n);
  assert.equal(params.bigint('a'), -1n);
  assert.equal(params.number('c'), -1);
  assert.equal(params.number('g'), undefined);
  assert.deepEqual(params.all('nothing'), []);
  assert.throws(() => decodeAll(hex('00000001 61000000 00000008 00000000'), param), /"?a"? of unknown type 8/);
});

test('an error with everything that may be missing missing, and with everything present', () => {
  const bare = decodeAll(
    hex(`
      0000002a 0000000a            # code 42, domain 10
      00000000                     # no message
      00000002                     # level: error
      00000000                     # no domain
      00000000 00000000 00000000   # no str1, str2, str3
      ffffffff 00000007            # int1 -1, int2 7
      00000000                     # no network
    `),
    wireError,
  );
  const error = LibvirtError.wire(bare, 'domainLookupByName');
  assert.equal(error.codeName, 'VIR_ERR_NO_DOMAIN');
  assert.equal(error.domainName, 'VIR_FROM_QEMU');
  assert.deepEqual([error.code, error.int1, error.int2, error.str1], [42, -1, 7, null]);
  assert.match(error.message, /42/);
  const full = decodeAll(
    hex(`
      0000002a 0000000a
      00000001 00000002 6e6f0000   # message "no"
      00000002
      00000001 ${DOM}
      00000001 00000001 61000000   # str1 "a"
      00000001 00000001 62000000   # str2 "b"
      00000001 00000001 63000000   # str3 "c"
      00000001 00000002
      00000001 00000001 6e000000 6695eb01f6a4830479aa97f2502e193f # network "n"
    `),
    wireError,
  );
  assert.deepEqual([full.message, full.dom?.name, full.str3, full.net?.name], ['no', 'test', 'c', 'n']);
});

test('hostile lengths are refused before anything is allocated for them', () => {
  const cases: [string, Codec<unknown>][] = [
    ['00000004 616263', str], // a string cut short
    ['ffffffff', str], // 4 GiB
    ['00400001', str], // one byte above libvirt's bound, none there
    ['00000003 616263', str], // without padding
    ['000000', uint], // three of four bytes
    ['00000000 000000', uhyper],
    ['ffffffff', list(uint)],
    ['00000002 00000001', list(uint)], // two items, one there
    ['3fffffff 00000000', list(list(uint))], // count * size would overflow 32 bits
    ['00000002 00000001', optional(uint)], // neither present nor missing
    ['6695eb01', uuid],
    ['00000011', opaque(16)],
  ];
  for (const [wire, codec] of cases) assert.throws(() => decodeAll(hex(wire), codec), isProtocolError, wire);
});

test('bytes left over are an error: both sides must mean the same message', () => {
  assert.throws(() => decodeAll(hex(`${DOM} 00000000`), dom), /4 bytes left over/);
});

test('values that cannot be sent are the caller’s error', () => {
  const isArgument = (error: unknown) => error instanceof LibvirtError && error.kind === 'argument';
  const unsent: (() => Buffer)[] = [
    () => encoded(str, 'a\0b'),
    () => encoded(uint, -1),
    () => encoded(uint, 1.5),
    () => encoded(uint, Number.NaN),
    () => encoded(uhyper, -1n),
    () => encoded(uhyper, 1n << 64n),
    () => encoded(uuid, 'not a uuid'),
    () => encoded(opaque(2), new Uint8Array(3)),
    () => encoded(str, 'x'.repeat(1024)),
    () => Buffer.from(encodeAll(64, (to) => PROCEDURES.domainGetState.encodeArgs(to, {} as never))),
  ];
  for (const send of unsent) assert.throws(send, isArgument);
});

test('the writer’s buffer grows wherever a value happens to cross its end', () => {
  const words = Array.from({ length: 5000 }, (_, index) => index);
  const grown = Buffer.from(encodeAll(65_536, (to) => list(uint).encode(to, words)));
  assert.deepEqual(decodeAll(grown, list(uint)), words);
  for (let prefix = 0; prefix < 16; prefix += 1) {
    const mixed = struct({ text: str, a: uhyper, b: uint, c: double, d: hyper, e: int });
    const value = { text: 'x'.repeat(236 + prefix), a: 1n, b: 2, c: 3.5, d: -4n, e: -5 };
    const bytes = Buffer.from(encodeAll(65_536, (to) => mixed.encode(to, value)));
    assert.deepEqual(decodeAll(bytes, mixed), value);
  }
});

test('optional arguments and flags may be left out', () => {
  const bytes = encodeAll(64, (to) => PROCEDURES.connectOpen.encodeArgs(to, {}));
  assert.deepEqual(Buffer.from(bytes), hex('00000000 00000000'));
});
