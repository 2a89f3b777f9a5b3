import { present } from '../../../api/present.ts';
import type { InviteView } from '../../../api/schemas.ts';
import type { hostsRoutes } from '../../../api/routes/hosts.ts';
import { changeHost } from '../../../core/requests/hosts.ts';
import { removeHost } from '../../../core/requests/remove-host.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { createInvite, revokeInvite } from '../../../core/requests/tokens.ts';
import { hashOf } from '../access.ts';
import { nothing, type Handlers } from '../call.ts';
import { pageOf } from '../lists.ts';
import type { Services } from '../services.ts';
import { changeOne, createSome, onlyOne } from './change.ts';

export function hostHandlers(services: Services): Handlers<keyof typeof hostsRoutes> {
  const { state } = services;
  return {
    'host.list': (call) => ({ pieces: pageOf(state.snapshot, 'host', call.query) }),
    'host.show': (call) => ({ resource: resolve(state.snapshot, 'host', call.params.host) }),
    'host.change': async (call) => {
      const { host } = call.params;
      const { resource } = await changeOne(services, 'host', host, call, (at) =>
        changeHost(at, host, call.body, call.context),
      );
      return { resource };
    },
    'host.remove': async (call) => {
      const { host } = call.params;
      const { lost } = call.query;
      const input = lost === undefined ? {} : { lost: true, confirm: lost };
      const { resource } = await changeOne(services, 'host', host, call, (at) =>
        removeHost(at, host, input, call.context),
      );
      services.links.drop(resource.id, 'certificate_refused', 'the host was removed from this site');
      return nothing;
    },
    'host.invite': async (call) => {
      const authority = services.authority();
      // The secret belongs to the invitation's id and is never kept: a repeat of the request is answered with the same.
      const id = services.ids.uuid();
      const context = { ...call.context, uuid: () => id };
      const secretHash = hashOf(authority.secretFor('invite', id));
      const { resources } = await createSome(services, call, 'invite', (snapshot) =>
        createInvite(snapshot, call.body, secretHash, context),
      );
      const invite = onlyOne(resources, 'invite');
      return {
        value: {
          invite: present(invite) as unknown as InviteView,
          secret: `vgi1.${authority.secretFor('invite', invite.id)}.${authority.pin}`,
          urls: [...services.agentUrls()],
        },
      };
    },
    'invite.list': (call) => ({ pieces: pageOf(state.snapshot, 'invite', call.query) }),
    'invite.remove': async (call) => {
      const { invite } = call.params;
      await changeOne(services, 'invite', invite, call, (snapshot) => revokeInvite(snapshot, invite, call.context));
      return nothing;
    },
  };
}
