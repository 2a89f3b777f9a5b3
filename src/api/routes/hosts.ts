import Type from 'typebox';
import { route, Opt, named, Plain, Page, type Route } from './common.ts';
import * as s from '../schemas.ts';

export const hostsRoutes = {
  'host.list': route({
    method: 'GET',
    path: '/v1/hosts',
    summary: 'List hosts',
    tag: 'hosts',
    cli: ['host list'],
    query: s.Obj({ ...named, state: Opt(Type.String({ maxLength: 32 })) }),
    answer: Page(s.Host),
    status: 200,
  }),
  'host.show': route({
    method: 'GET',
    path: '/v1/hosts/{host}',
    summary: 'Show a host',
    tag: 'hosts',
    cli: ['host show'],
    answer: s.Host,
    status: 200,
  }),
  'host.change': route({
    method: 'PATCH',
    path: '/v1/hosts/{host}',
    summary: 'Change labels, what is kept for the host, overcommit, capacity, cordon',
    tag: 'hosts',
    cli: ['host set', 'host cordon', 'host uncordon'],
    body: s.HostChange,
    answer: s.Host,
    status: 200,
    change: true,
  }),
  'host.remove': route({
    method: 'DELETE',
    path: '/v1/hosts/{host}',
    summary: 'Remove a host; with guests only as lost for ever',
    tag: 'hosts',
    cli: ['host remove'],
    query: s.Obj({
      lost: Opt(
        Type.String({
          maxLength: 63,
          description: 'The host’s name once more, as confirmation that the machine is gone for ever',
        }),
      ),
    }),
    status: 204,
    change: true,
  }),
  'host.invite': route({
    method: 'POST',
    path: '/v1/invites',
    summary: 'Invite a host',
    tag: 'hosts',
    cli: ['host invite'],
    body: s.AddInvite,
    answer: s.InviteMade,
    status: 201,
    idempotent: true,
    change: true,
  }),
  'invite.list': route({
    method: 'GET',
    path: '/v1/invites',
    summary: 'List invitations',
    tag: 'hosts',
    cli: ['host invites'],
    query: Plain,
    answer: Page(s.Invite),
    status: 200,
  }),
  'invite.remove': route({
    method: 'DELETE',
    path: '/v1/invites/{invite}',
    summary: 'Take an invitation back',
    tag: 'hosts',
    cli: ['host uninvite'],
    status: 204,
    change: true,
  }),
} as const satisfies Record<string, Route>;
