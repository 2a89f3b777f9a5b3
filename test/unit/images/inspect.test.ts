import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { headBytes, inspectImage, tailBytes, type ImageFault } from '../../../src/core/images/inspect.ts';
import type { ImageFormat } from '../../../src/core/model/image.ts';
import { addExtension, buildBomb, buildQcow2, buildRaw, clusterBytes } from './build.ts';

const limits = { maxVirtualBytes: 2 ** 41 };
type Verdict = ReturnType<typeof inspectImage>;

function look(format: ImageFormat, image: Buffer, sizeBytes = image.length): Verdict {
  const head = image.subarray(0, headBytes);
  return inspectImage(format, { sizeBytes, head, tail: image.subarray(-tailBytes) }, limits);
}

function refused(verdict: Verdict, fault: ImageFault, words: RegExp): void {
  assert.equal(verdict.ok, false);
  assert.equal(verdict.fault, fault);
  assert.match(verdict.detail, words);
  assert.ok(verdict.how.length > 10);
}

/** A sound image with one thing changed. */
function changed(change: (image: Buffer) => unknown, version: 2 | 3 = 3): Buffer {
  const image = buildQcow2({ version });
  change(image);
  return image;
}

describe('sound images', () => {
  it('are approved with the size of their disk', () => {
    for (const version of [2, 3] as const) {
      const verdict = look('qcow2', buildQcow2({ version, virtualBytes: 12_345_678 }));
      assert.deepEqual(verdict, { ok: true, virtualBytes: 12_345_678, clusterBytes });
    }
    assert.deepEqual(look('raw', buildRaw()), { ok: true, virtualBytes: 1024 * 1024 });
  });

  it('may carry the names of features, and zstd', () => {
    const named = changed((image) => addExtension(image, 0x6803f857, Buffer.alloc(144, 1)));
    assert.equal(look('qcow2', named).ok, true);
    const zstd = changed((image) => {
      image.writeBigUInt64BE(8n, 72);
      image.writeUInt32BE(112, 100);
      image[104] = 1;
    });
    assert.equal(look('qcow2', zstd).ok, true);
  });

  it('may be raw with a GPT in sectors of 512 or 4,096 bytes', () => {
    for (const at of [512, 4096]) {
      const image = Buffer.alloc(65_536 * 2);
      assert.equal(look('raw', image).ok, false);
      image.write('EFI PART', at);
      assert.equal(look('raw', image).ok, true);
    }
  });
});

describe('hostile qcow2 images are refused for', () => {
  const cases: readonly [string, ImageFault, RegExp, (image: Buffer) => unknown][] = [
    ['a backing file', 'backing-file', /backing file/, (i) => i.writeBigUInt64BE(512n, 8)],
    ['the length of a backing file name alone', 'backing-file', /backing file/, (i) => i.writeUInt32BE(11, 16)],
    ['an external data file', 'data-file', /data in another file/, (i) => i.writeBigUInt64BE(4n, 72)],
    ['the name of a data file', 'data-file', /data file/, (i) => addExtension(i, 0x44415441, Buffer.from('/etc/x'))],
    ['the format of a backing file', 'backing-file', /backing/, (i) => addExtension(i, 0xe2792aca, Buffer.from('raw'))],
    ['AES', 'encrypted', /encrypted \(AES\)/, (i) => i.writeUInt32BE(1, 32)],
    ['LUKS', 'encrypted', /encrypted \(LUKS\)/, (i) => i.writeUInt32BE(2, 32)],
    ['an encryption header', 'encrypted', /encryption header/, (i) => addExtension(i, 0x0537be77, Buffer.alloc(16))],
    ['bitmaps', 'extension', /bitmaps/, (i) => addExtension(i, 0x23852875, Buffer.alloc(24))],
    ['an unknown extension', 'extension', /0xdeadbeef/, (i) => addExtension(i, 0xdeadbeef, Buffer.alloc(8))],
    [
      'an extension that never ends',
      'header',
      /longer/,
      (i) => addExtension(i, 0x6803f857, Buffer.alloc(0)).writeUInt32BE(0xffffffff, 108),
    ],
    ['internal snapshots', 'snapshots', /3 internal snapshots/, (i) => i.writeUInt32BE(3, 60)],
    ['unknown incompatible features', 'features', /0x8000000000000000/, (i) => i.writeBigUInt64BE(1n << 63n, 72)],
    ['extended L2 entries', 'features', /extended L2/, (i) => i.writeBigUInt64BE(16n, 72)],
    ['the dirty bit', 'dirty', /not closed/, (i) => i.writeBigUInt64BE(1n, 72)],
    ['the corrupt bit', 'dirty', /corrupt/, (i) => i.writeBigUInt64BE(2n, 72)],
    ['a huge disk', 'virtual-size', /9223372036854775807 bytes/, (i) => i.writeBigUInt64BE(2n ** 63n - 1n, 24)],
    ['a disk one byte too large', 'virtual-size', /2199023255553/, (i) => i.writeBigUInt64BE(2n ** 41n + 1n, 24)],
    ['no disk', 'virtual-size', /no bytes/, (i) => i.writeBigUInt64BE(0n, 24)],
    ['tiny clusters', 'header', /2\^8/, (i) => i.writeUInt32BE(8, 20)],
    ['huge clusters', 'header', /2\^4294967295/, (i) => i.writeUInt32BE(0xffffffff, 20)],
    ['a short header', 'header', /header length is 96/, (i) => i.writeUInt32BE(96, 100)],
    ['a long header', 'header', /header length is 1032/, (i) => i.writeUInt32BE(1032, 100)],
    ['wide refcounts', 'header', /2\^7/, (i) => i.writeUInt32BE(7, 96)],
    ['an unknown compression', 'header', /compression method 7/, (i) => (i.writeUInt32BE(112, 100), (i[104] = 7))],
    ['a hidden compression', 'header', /compression method 0/, (i) => i.writeBigUInt64BE(8n, 72)],
    ['an L1 table over 32 MiB', 'tables', /more than 32 MiB/, (i) => i.writeUInt32BE(4_194_305, 36)],
    ['an L1 table too short', 'tables', /its disk needs 1/, (i) => i.writeUInt32BE(0, 36)],
    ['an L1 table in the header', 'tables', /L1 table is at 0/, (i) => i.writeBigUInt64BE(0n, 40)],
    ['an L1 table askew', 'tables', /L1 table is at 65537/, (i) => i.writeBigUInt64BE(65_537n, 40)],
    ['an L1 table beyond the end', 'truncated', /L1 table lies beyond/, (i) => i.writeBigUInt64BE(2n ** 62n, 40)],
    ['a refcount table beyond the end', 'truncated', /refcount table/, (i) => i.writeBigUInt64BE(2n ** 32n, 48)],
    ['no refcount table', 'tables', /no refcount/, (i) => i.writeUInt32BE(0, 56)],
    ['a huge refcount table', 'tables', /8 MiB/, (i) => i.writeUInt32BE(0xffffffff, 56)],
    ['version 1', 'version', /version is 1/, (i) => i.writeUInt32BE(1, 4)],
    ['version 4', 'version', /version is 4/, (i) => i.writeUInt32BE(4, 4)],
    ['no magic', 'not-qcow2', /no qcow2 header/, (i) => i.fill(0, 0, 4)],
    ['the magic of VMDK', 'not-qcow2', /it is VMDK/, (i) => i.write('KDMV')],
  ];
  for (const [name, fault, words, change] of cases)
    it(name, () => refused(look('qcow2', changed(change)), fault, words));

  it('a backing file in version 2', () => {
    refused(
      look(
        'qcow2',
        changed((image) => image.writeBigUInt64BE(512n, 8), 2),
      ),
      'backing-file',
      /backing/,
    );
    refused(
      look(
        'qcow2',
        changed((image) => addExtension(image, 0x44415441, Buffer.from('/x'), 72), 2),
      ),
      'data-file',
      /./,
    );
  });

  it('being cut off anywhere before its tables end', () => {
    const image = buildQcow2();
    for (let length = 0; length <= 3 * clusterBytes; length = length < 200 ? length + 1 : length * 2)
      assert.equal(look('qcow2', image.subarray(0, length)).ok, false, `${length} bytes`);
    refused(look('qcow2', image.subarray(0, 80)), 'truncated', /within its header/);
    refused(look('qcow2', image.subarray(0, 2 * clusterBytes)), 'truncated', /L1 table/);
    refused(look('qcow2', Buffer.alloc(0)), 'empty', /no bytes/);
  });

  it('bytes that the reader could not give', () => {
    refused(look('qcow2', buildQcow2().subarray(0, 4096), 1_000_000), 'truncated', /4096 of its first 65536/);
  });

  it('not for a bomb in its tables: that is found by qemu-img check and by counting (see test/real/images)', () => {
    assert.equal(look('qcow2', buildBomb(7, true)).ok, true);
  });
});

describe('raw images are refused when', () => {
  const signatures: readonly [string, number, string][] = [
    ['qcow2', 0, 'QFI\xfb\0\0\0\x03'],
    ['qcow (version 1)', 0, 'QFI\xfb\0\0\0\x01'],
    ['QED', 0, 'QED\0'],
    ['VMDK', 0, 'KDMV'],
    ['VMDK', 0, '# Disk DescriptorFile'],
    ['VHD', 0, 'conectix'],
    ['VHD', 1024 * 1024 - 512, 'conectix'],
    ['VHDX', 0, 'vhdxfile'],
    ['VDI', 64, '\x7f\x10\xda\xbe'],
    ['LUKS', 0, 'LUKS\xba\xbe'],
    ['gzip', 0, '\x1f\x8b\x08'],
  ];
  for (const [name, at, bytes] of signatures)
    it(`they carry the signature of ${name} at ${at}`, () => {
      const image = buildRaw();
      image.write(bytes, at, 'latin1');
      const verdict = look('raw', image);
      refused(verdict, 'disguise', /declared raw/);
      assert.ok(!verdict.ok && verdict.detail.endsWith(name));
    });

  it('they have no partition table, are no whole sectors, are empty or too large', () => {
    refused(look('raw', Buffer.alloc(4096)), 'boot-record', /neither an MBR nor a GPT/);
    refused(look('raw', buildRaw(1_000_001)), 'sectors', /1000001/);
    refused(look('raw', Buffer.alloc(0)), 'empty', /no bytes/);
    refused(look('raw', buildRaw(), 2 ** 41 + 512), 'virtual-size', /limit of this site/);
  });
});

describe('whatever the bytes are', () => {
  const header = buildQcow2().subarray(0, 4 * clusterBytes);
  const mutations = fc.array(fc.record({ at: fc.nat(199), value: fc.nat(255) }), { minLength: 1, maxLength: 12 });

  it('inspection never throws, and approves nothing that refers to another file or needs a key', () => {
    fc.assert(
      fc.property(mutations, fc.constantFrom<2 | 3>(2, 3), (changes, version) => {
        const image = Buffer.from(header);
        image.writeUInt32BE(version, 4);
        for (const { at, value } of changes) image[at] = value;
        const verdict = look('qcow2', image);
        if (!verdict.ok) return;
        assert.equal(image.readBigUInt64BE(8), 0n);
        assert.equal(image.readUInt32BE(16), 0);
        assert.equal(image.readUInt32BE(32), 0);
        assert.equal(image.readUInt32BE(60), 0);
        if (image.readUInt32BE(4) === 3) assert.equal(image.readBigUInt64BE(72) & ~8n, 0n);
        assert.ok(verdict.virtualBytes > 0 && verdict.virtualBytes <= limits.maxVirtualBytes);
        assert.equal(BigInt(verdict.virtualBytes), image.readBigUInt64BE(24));
      }),
      { numRuns: 3000 },
    );
  });

  it('a backing file is never approved, whatever else is changed', () => {
    fc.assert(
      fc.property(mutations, fc.bigInt(1n, 2n ** 64n - 1n), (changes, offset) => {
        const image = Buffer.from(header);
        for (const { at, value } of changes) image[at] = value;
        image.writeBigUInt64BE(offset, 8);
        assert.equal(look('qcow2', image).ok, false);
      }),
      { numRuns: 1000 },
    );
  });

  it('random bytes are judged too, as either format', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), fc.boolean(), (bytes, magic) => {
        const image = Buffer.concat([Buffer.from(magic ? [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3] : []), bytes]);
        assert.equal(typeof look('qcow2', image).ok, 'boolean');
        assert.equal(look('raw', image).ok && magic, false);
      }),
      { numRuns: 1000 },
    );
  });
});
