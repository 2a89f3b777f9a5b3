/** The bytes of images, from the controller. */
import { request, type Agent } from 'undici';
import { VirgaError } from '../core/errors.ts';
import type { FetchImage } from './images/types.ts';
import { dispatcher, tlsOf, type Credentials } from './tls.ts';

/** `credentials` is asked at each fetch: they change when the certificate is renewed. */
export function imageTransport(credentials: () => Credentials): { readonly fetch: FetchImage; close(): Promise<void> } {
  let current: { readonly of: Credentials; readonly http: Agent } | undefined;
  const connection = (): Agent => {
    const wanted = credentials();
    if (current?.of === wanted) return current.http;
    const old = current?.http;
    current = { of: wanted, http: dispatcher(tlsOf(wanted)) };
    // What runs on the old connections may finish.
    void old?.close();
    return current.http;
  };
  return {
    fetch: async (sha512, fromByte, signal) => {
      const { url } = credentials();
      const { statusCode, body } = await request(`${url}/agent/v1/images/${sha512}`, {
        dispatcher: connection(),
        signal,
        ...(fromByte > 0 ? { headers: { range: `bytes=${fromByte}-` } } : {}),
      });
      if (statusCode === (fromByte > 0 ? 206 : 200)) return body as AsyncIterable<Uint8Array>;
      await body.dump({ limit: 65_536 });
      if (statusCode === 404) throw new VirgaError('not_found', { kind: 'image', name: sha512.slice(0, 16) });
      throw new VirgaError('site_unreachable', { where: url, detail: `status ${statusCode} for an image` });
    },
    close: async () => {
      await current?.http.destroy();
    },
  };
}
