import { route, Plain, Page, type Route } from './common.ts';
import * as s from '../schemas.ts';

export const networksRoutes = {
  'network.list': route({
    method: 'GET',
    path: '/v1/networks',
    summary: 'List networks',
    tag: 'networks',
    cli: ['network list'],
    query: Plain,
    answer: Page(s.Network),
    status: 200,
  }),
  'network.create': route({
    method: 'POST',
    path: '/v1/networks',
    summary: 'Create a network',
    tag: 'networks',
    cli: ['network create'],
    body: s.AddNetwork,
    answer: s.Network,
    status: 201,
    idempotent: true,
    change: true,
  }),
  'network.show': route({
    method: 'GET',
    path: '/v1/networks/{network}',
    summary: 'Show a network',
    tag: 'networks',
    cli: ['network show'],
    answer: s.Network,
    status: 200,
  }),
  'network.delete': route({
    method: 'DELETE',
    path: '/v1/networks/{network}',
    summary: 'Delete a network; refused while in use',
    tag: 'networks',
    cli: ['network delete'],
    status: 204,
    change: true,
  }),
} as const satisfies Record<string, Route>;
