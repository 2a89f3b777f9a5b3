import type { imagesRoutes } from '../../../api/routes/images.ts';
import { VirgaError } from '../../../core/errors.ts';
import type { Image } from '../../../core/model/image.ts';
import { beginImage, deleteImage, renameImage } from '../../../core/requests/images.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { virga } from '../access.ts';
import { nothing, type Handlers, type Headers } from '../call.ts';
import { demandMatch, pageOf } from '../lists.ts';
import { parseRange, rangeReply } from '../range.ts';
import type { Services } from '../services.ts';
import { changeOne, createSome, onlyOne } from './change.ts';

export function imageHandlers(services: Services): Handlers<keyof typeof imagesRoutes> {
  const { state, images, files } = services;
  const find = (ref: string): Image => resolve(state.snapshot, 'image', ref);
  return {
    'image.list': (call) => ({ pieces: pageOf(state.snapshot, 'image', call.query) }),
    'image.show': (call) => ({ resource: find(call.params.image) }),
    'image.add': async (call) => {
      const { resources } = await createSome(services, call, 'image', (snapshot) =>
        beginImage(snapshot, call.body, call.context),
      );
      const image = onlyOne(resources, 'image') as Image;
      await beginOrTakeBack(services, image);
      return { resource: image };
    },
    'image.rename': async (call) => {
      const { image } = call.params;
      const { resource } = await changeOne(services, 'image', image, call, (at) =>
        renameImage(at, image, call.body.name, call.context),
      );
      return { resource };
    },
    'image.delete': async (call) => {
      const { image } = call.params;
      const { resource } = await changeOne(services, 'image', image, call, (at) =>
        deleteImage(at, image, call.context),
      );
      await images.forget(resource as Image);
      return nothing;
    },
    'image.offset': async (call) => {
      const image = find(call.params.image);
      return { nothing: true, headers: offsetHeaders(await images.offset(image), image.status.sizeBytes) };
    },
    'image.upload': async (call) => {
      const image = find(call.params.image);
      const { receivedBytes } = await images.append(
        image,
        offsetOf(call.headers['upload-offset']),
        call.bytes,
        call.signal,
      );
      return { resource: find(image.id), headers: offsetHeaders(receivedBytes, image.status.sizeBytes) };
    },
    'image.finish': async (call) => {
      const image = find(call.params.image);
      demandMatch(state.snapshot, 'image', image.id, call.ifMatch);
      await images.finish(image, call.context);
      return { resource: find(image.id) };
    },
    'image.download': async (call) => {
      const image = find(call.params.image);
      const { stored, state: now } = image.status;
      if (!stored) throw new VirgaError('not_ready', { kind: 'image', name: image.name, state: now });
      const range = parseRange(call.headers.range, stored.sizeBytes);
      return rangeReply(await files.open(stored.sha512, range), range !== undefined, {
        'content-disposition': `attachment; filename="${image.name}.qcow2"`,
        'virga-sha512': stored.sha512,
      });
    },
  };
}

/** An image without room for its bytes is not left behind as a promise that cannot be kept. */
async function beginOrTakeBack(services: Services, image: Image): Promise<void> {
  if (image.status.state !== 'uploading') return;
  try {
    await services.images.begin(image);
  } catch (error) {
    const context = { now: services.clock.now(), uuid: () => services.ids.uuid(), actor: virga };
    await services.state.change((snapshot) => {
      if (!snapshot.get('image', image.id)) return { change: { put: [], remove: [], events: [] } };
      return deleteImage(snapshot, image.id, context);
    });
    throw error;
  }
}

function offsetOf(header: string | string[] | undefined): number {
  const value = typeof header === 'string' && /^\d{1,16}$/.test(header) ? Number(header) : Number.NaN;
  if (!Number.isSafeInteger(value))
    throw new VirgaError('invalid_request', {
      detail: 'the header Upload-Offset must say at which byte the body begins',
    });
  return value;
}

function offsetHeaders(offset: number, length: number): Headers {
  return { 'upload-offset': String(offset), 'upload-length': String(length), 'cache-control': 'no-store' };
}
