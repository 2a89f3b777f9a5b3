import type { healthRoutes } from '../../../api/routes/health.ts';
import { openApi } from '../../../api/openapi.ts';
import { VirgaError } from '../../../core/errors.ts';
import type { Handlers } from '../call.ts';
import { referencePage, referencePolicy } from '../reference.ts';
import type { Services } from '../services.ts';

const plain = 'text/plain; charset=utf-8';

export function healthHandlers(services: Services): Handlers<keyof typeof healthRoutes> {
  const { state, store, metrics, version } = services;
  // Both are the same for the life of the process.
  const document = JSON.stringify(openApi(version));
  const page = referencePage(version);
  return {
    'health.live': () => ({ text: 'ok\n', type: plain }),
    'health.ready': async () => {
      if (state.leadership !== 'leading') throw new VirgaError('not_leading');
      await store.ping();
      // A new site has no authority for its first moments, and then nobody could join.
      services.authority();
      return { text: 'ready\n', type: plain };
    },
    'health.metrics': async () => ({ text: await metrics.registry.metrics(), type: metrics.registry.contentType }),
    'health.openapi': () => ({ text: document, type: 'application/json; charset=utf-8' }),
    'health.reference': () => ({
      text: page,
      type: 'text/html; charset=utf-8',
      headers: { 'content-security-policy': referencePolicy },
    }),
  };
}
