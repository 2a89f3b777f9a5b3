import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as fc from 'fast-check';
import { VirgaError } from '../../../src/core/errors.ts';
import {
  type BackupHeader,
  BackupReader,
  type OutgoingPart,
  type PartStart,
  writeFormat,
} from '../../../src/controller/store/backup-format.ts';
import { tableName } from '../../../src/controller/store/backup.ts';

const header: BackupHeader = { schema: 1, site: { id: 'x', name: 'test' }, createdAt: 5, contents: ['table:a'] };

interface Part extends PartStart {
  readonly chunks: readonly Uint8Array[];
}

async function* outgoing(parts: readonly Part[]): AsyncGenerator<OutgoingPart> {
  for (const { chunks, ...start } of parts) yield { ...start, content: chunks };
}

async function written(parts: readonly Part[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeFormat(header, outgoing(parts))) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Hands the bytes over in pieces of odd sizes. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

async function read(bytes: Uint8Array, size: number): Promise<{ header: BackupHeader; parts: [string, string][] }> {
  const reader = new BackupReader(pieces(bytes, size));
  const found = await reader.header();
  const parts: [string, string][] = [];
  for (let part = await reader.next(); part; part = await reader.next()) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of reader.content()) chunks.push(chunk);
    parts.push([part.name, Buffer.concat(chunks).toString('hex')]);
  }
  return { header: found, parts };
}

const anyPart: fc.Arbitrary<Part> = fc.record({
  name: fc.constantFrom('table:a', 'table:b', 'key:c'),
  columns: fc.array(fc.constantFrom('x', 'y'), { maxLength: 2 }),
  chunks: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }),
});
const anyParts = fc.array(anyPart, { maxLength: 4 });

it('what was written is read, however the bytes arrive', async () => {
  await fc.assert(
    fc.asyncProperty(anyParts, fc.integer({ min: 1, max: 99 }), async (parts, size) => {
      const result = await read(await written(parts), size);
      assert.deepEqual(result.header, header);
      const expected = parts.map(({ name, chunks }) => [name, Buffer.concat(chunks).toString('hex')]);
      assert.deepEqual(result.parts, expected);
    }),
  );
});

it('no change of any byte, cut or addition goes unnoticed', async () => {
  await fc.assert(
    fc.asyncProperty(
      anyParts,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(2),
      async (parts, where, mask, kind) => {
        const good = await written(parts);
        const at = where % good.length;
        const changed = Buffer.from(good);
        changed[at] = (changed[at] ?? 0) ^ mask;
        const bad = [changed, good.subarray(0, at), Buffer.concat([good, Buffer.of(mask)])][kind] ?? good;
        await assert.rejects(read(bad, 64), (error) => error instanceof VirgaError && error.code === 'backup');
      },
    ),
    { numRuns: 500 },
  );
});

it('refuses a file of a newer format, and says so', async () => {
  const newer = Buffer.from((await written([])).toString().replace('VIRGA-BACKUP 1', 'VIRGA-BACKUP 2'));
  await assert.rejects(read(newer, 64), /newer version of Virga/);
});

it('a table name in a file cannot carry a statement', () => {
  assert.equal(tableName('event', ['seq', 'who']), 'virga."event" ("seq", "who")');
  assert.throws(() => tableName("event\" FROM PROGRAM 'id'; --", []), VirgaError);
  assert.throws(() => tableName('event', ['a", "b']), VirgaError);
});
