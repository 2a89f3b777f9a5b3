import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { it } from 'node:test';
import { BoundedLog } from '../../../src/controller/store/bounded-log.ts';

it('keeps the newest lines for messages, and never grows beyond two files', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'virga-log-'));
  try {
    const log = new BoundedLog(join(folder, 'x.log'));
    const size = async (name: string): Promise<number> =>
      (await stat(join(folder, name)).catch(() => ({ size: 0 }))).size;
    const line = `${'x'.repeat(1023)}\n`;
    for (let run = 0; run < 4; run += 1) {
      const source = new PassThrough();
      log.follow(source);
      for (let written = 0; written < 3 * 1024; written += 64) source.write(line.repeat(64));
      source.end(`end of run ${run}\n`);
      await finished(source);
      assert.equal(log.lastLines.at(-1), `end of run ${run}`);
      assert.ok(log.lastLines.length <= 20);
    }
    log.close();
    assert.match(await readFile(join(folder, 'x.log'), 'utf8'), /end of run 3\n$/);
    const mib = 1024 * 1024;
    assert.ok((await size('x.log')) < 8 * mib && (await size('x.log.1')) < 8 * mib);
    assert.ok((await size('x.log.1')) > 0, 'it was turned over');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
