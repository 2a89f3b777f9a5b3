/** Uploads in parts, over lines that break. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import type { ImageView } from '../../../src/api/schemas.ts';
import { formatOf, nameFrom } from '../../../src/cli/commands/image.ts';
import { after, overlap } from '../../../src/cli/logs.ts';
import { image, siteStatus } from './documents.ts';
import { cli, cut, StandIn, type Raw } from './stand-in.ts';

const part = 16 * 1024 ** 2;

/** A site that keeps what arrives; every `breakEvery`th part breaks, after or before it was taken. */
async function store(t: TestContext, options: { readonly breakEvery?: number; readonly have?: Buffer } = {}) {
  const made: { received: Buffer; view: ImageView; parts: number; breaks: number } = {
    received: options.have ?? Buffer.alloc(0),
    view: image('x'),
    parts: 0,
    breaks: 0,
  };
  const view = (state: ImageView['status']['state'], more: Partial<ImageView['status']> = {}): ImageView => ({
    ...made.view,
    status: {
      state,
      stateAt: made.view.createdAt,
      sizeBytes: made.view.status.sizeBytes,
      receivedBytes: made.received.length,
      ...more,
    },
  });
  const site = await StandIn.start(t, {
    'image.add': ({ body }) => {
      const { name, format, sizeBytes } = body as { name: string; format: 'qcow2'; sizeBytes: number };
      if (options.have) throw new VirgaError('name_taken', { kind: 'image', name });
      made.view = image(name, { spec: { format }, status: { ...made.view.status, sizeBytes } });
      return view('uploading');
    },
    'image.offset': (): Raw => (response) => {
      response.writeHead(200, { 'upload-offset': String(made.received.length) });
      response.end();
    },
    'image.upload': ({ headers, body }) => {
      made.parts += 1;
      const offset = Number(headers['upload-offset']);
      if (offset !== made.received.length)
        throw new VirgaError('upload_offset', { name: 'x', expected: made.received.length, given: offset });
      const broken = options.breakEvery !== undefined && made.parts % options.breakEvery === 0;
      if (broken) made.breaks += 1;
      // Sometimes half of the part was taken, sometimes all, when the line breaks.
      const bytes = body as Buffer;
      made.received = Buffer.concat([
        made.received,
        broken && made.breaks % 2 === 0 ? bytes.subarray(0, bytes.length / 2) : bytes,
      ]);
      return broken ? cut : view('uploading');
    },
    'image.finish': () => view('checking'),
    'image.show': () => {
      const givenSha512 = createHash('sha512').update(made.received).digest('hex');
      return made.received.length === made.view.status.sizeBytes ? view('ready', { givenSha512 }) : view('uploading');
    },
    'site.status': () => siteStatus(),
  });
  return { site, made };
}

test('the format comes from the name only for .qcow2, the name from the file', () => {
  assert.equal(formatOf('a/b.qcow2', undefined), 'qcow2');
  assert.equal(formatOf('https://x/y.qcow2?z=1', undefined), 'qcow2');
  assert.throws(() => formatOf('disk.img', undefined), /--format raw/);
  assert.equal(formatOf('disk.img', 'raw'), 'raw');
  assert.equal(nameFrom('/x/Debian_12 genericcloud-amd64.qcow2'), 'debian-12-genericcloud-amd64');
  assert.equal(nameFrom('https://host/images/cirros-0.6.img?x=y'), 'cirros-0-6');
  assert.throws(() => nameFrom('/x/___.img'), /--name/);
});

test('what arrives is what was sent, also when every second part breaks in or after its middle', async (t) => {
  const { site, made } = await store(t, { breakEvery: 2 });
  const bytes = randomBytes(3 * part + 12_345);
  const path = join(site.folder, 'x.qcow2');
  writeFileSync(path, bytes);
  const ran = await cli(site.socket, ['image', 'add', path]);
  assert.equal(ran.code, 0, ran.err);
  assert.ok(made.breaks >= 2);
  assert.ok(made.received.equals(bytes));
  assert.match(ran.err, /x: 100 %/);
});

test('an earlier upload of the same file is gone on with; of another file of the same size it is refused', async (t) => {
  const bytes = randomBytes(part + 1000);
  const go = async (have: Buffer): Promise<{ code: number; err: string; parts: number }> => {
    const { site, made } = await store(t, { have });
    made.view = image('x', { spec: { format: 'qcow2' }, status: { ...made.view.status, sizeBytes: bytes.length } });
    const path = join(site.folder, 'x.qcow2');
    writeFileSync(path, bytes);
    const ran = await cli(site.socket, ['image', 'add', path]);
    return { ...ran, parts: made.parts };
  };
  const same = await go(bytes.subarray(0, part));
  assert.equal(same.code, 0, same.err);
  assert.equal(same.parts, 1, 'only the rest is sent');
  assert.match(same.err, /Going on with x at 99 %/);
  const other = await go(randomBytes(part));
  assert.equal(other.code, 1);
  assert.match(other.err, /The digest of the image "x" on the site is/);
});

test('from an address: a download that breaks is taken up where it was', async (t) => {
  // More than the buffers on the way hold, so that the reader has some of it when the line breaks.
  const bytes = randomBytes(24 * 1024 ** 2);
  const ranges: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const { range } = request.headers;
    ranges.push(range);
    const from = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from, etag: '"one"' });
    if (ranges.length > 1) response.end(bytes.subarray(from));
    else response.write(bytes.subarray(0, 20 * 1024 ** 2), () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { site, made } = await store(t);
  const { port } = server.address() as { port: number };
  const ran = await cli(site.socket, ['image', 'add', `http://127.0.0.1:${port}/y.qcow2`]);
  assert.equal(ran.code, 0, ran.err);
  assert.ok(made.received.equals(bytes));
  assert.match(ranges[1] ?? '', /^bytes=\d+-$/);
});

test('what cannot be read says why', async (t) => {
  const { site } = await store(t);
  assert.match((await cli(site.socket, ['image', 'add', '/nonexistent/a.qcow2'])).err, /there is no such file/);
  assert.match((await cli(site.socket, ['image', 'add', site.folder, '--format', 'raw'])).err, /is a folder/);
  assert.match((await cli(site.socket, ['image', 'add', 'ftp://x/y.qcow2'])).err, /only http and https/);
  assert.equal((await cli(site.socket, ['image', 'add', 'http://127.0.0.1:9/y.qcow2'])).code, 1);
});

test('a log that is followed again is printed once', () => {
  const printed = Buffer.from('line 1\nline 2\n');
  assert.equal(after(printed, Buffer.from('line 0\nline 1\nline 2\nline 3\n')).toString(), 'line 3\n');
  assert.equal(
    after(printed, Buffer.from('line 2\nline 3\n')).toString(),
    'line 3\n',
    'the log was cut at its beginning',
  );
  assert.equal(after(printed, Buffer.from('something else')).toString(), 'something else');
  assert.equal(overlap(Buffer.from('abcab'), Buffer.from('abx')), 2);
  assert.equal(overlap(Buffer.from('abc'), Buffer.from('x')), 0);
});
