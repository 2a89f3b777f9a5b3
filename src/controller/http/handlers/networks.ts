import type { networksRoutes } from '../../../api/routes/networks.ts';
import { createNetwork, deleteNetwork } from '../../../core/requests/networks.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { nothing, type Handlers } from '../call.ts';
import { pageOf } from '../lists.ts';
import type { Services } from '../services.ts';
import { changeOne, createSome, onlyOne } from './change.ts';

export function networkHandlers(services: Services): Handlers<keyof typeof networksRoutes> {
  const { state } = services;
  return {
    'network.list': (call) => ({ pieces: pageOf(state.snapshot, 'network', call.query) }),
    'network.show': (call) => ({ resource: resolve(state.snapshot, 'network', call.params.network) }),
    'network.create': async (call) => {
      const { resources } = await createSome(services, call, 'network', (snapshot) =>
        createNetwork(snapshot, call.body, call.context),
      );
      return { resource: onlyOne(resources, 'network') };
    },
    'network.delete': async (call) => {
      const { network } = call.params;
      await changeOne(services, 'network', network, call, (snapshot) => deleteNetwork(snapshot, network, call.context));
      return nothing;
    },
  };
}
