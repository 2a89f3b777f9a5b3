import { createReadStream } from 'node:fs';
import type { Client } from '../api/client.ts';
import type { ImageView } from '../api/schemas.ts';
import { imageReady } from './ready.ts';

export interface LocalImage {
  readonly path: string;
  readonly name: string;
  readonly format: 'qcow2' | 'raw';
  readonly sha512: string;
  readonly bytes: number;
}

/** Adds a local file as an image in one piece and waits until it is ready. People use `virga image add`, which resumes. */
export async function uploadFile(client: Client, image: LocalImage): Promise<ImageView> {
  const { name, format, sha512, bytes } = image;
  await client.call('image.add', {
    body: { name, format, sizeBytes: bytes, sha512 },
    idempotencyKey: `${name}-${sha512.slice(0, 32)}`,
  });
  const answer = await client.raw('image.upload', {
    params: { image: name },
    headers: { 'upload-offset': '0' },
    bytes: createReadStream(image.path),
    timeoutMs: 300_000,
  });
  await answer.body.dump();
  await client.call('image.finish', { params: { image: name }, body: {} });
  return imageReady(client, name);
}
