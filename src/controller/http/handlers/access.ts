import { present } from '../../../api/present.ts';
import type { TokenView } from '../../../api/schemas.ts';
import type { accessRoutes } from '../../../api/routes/access.ts';
import { createToken, revokeToken } from '../../../core/requests/tokens.ts';
import { hashOf } from '../access.ts';
import { nothing, type Handlers } from '../call.ts';
import { pageOf } from '../lists.ts';
import type { Services } from '../services.ts';
import { changeOne, createSome, onlyOne } from './change.ts';

export function accessHandlers(services: Services): Handlers<keyof typeof accessRoutes> {
  return {
    'token.list': (call) => ({ pieces: pageOf(services.state.snapshot, 'token', call.query) }),
    'token.create': async (call) => {
      const secret = services.ids.secret();
      const { resources } = await createSome(services, call, 'token', (snapshot) =>
        createToken(snapshot, call.body, hashOf(secret), call.context),
      );
      const token = onlyOne(resources, 'token');
      return {
        value: { token: present(token) as unknown as TokenView, secret: `vgt1.${token.id}.${secret}` },
        headers: { 'cache-control': 'no-store' },
      };
    },
    'token.revoke': async (call) => {
      const { token } = call.params;
      await changeOne(services, 'token', token, call, (snapshot) => revokeToken(snapshot, token, call.context));
      return nothing;
    },
  };
}
