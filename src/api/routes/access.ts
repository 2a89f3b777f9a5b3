import { route, Plain, Page, type Route } from './common.ts';
import * as s from '../schemas.ts';

export const accessRoutes = {
  'token.list': route({
    method: 'GET',
    path: '/v1/tokens',
    summary: 'List tokens (never their secrets)',
    tag: 'access',
    cli: ['token list'],
    query: Plain,
    answer: Page(s.Token),
    status: 200,
    change: true,
  }),
  'token.create': route({
    method: 'POST',
    path: '/v1/tokens',
    summary: 'Create a token; its secret is shown once',
    tag: 'access',
    cli: ['token create'],
    body: s.AddToken,
    answer: s.TokenMade,
    status: 201,
    change: true,
  }),
  'token.revoke': route({
    method: 'DELETE',
    path: '/v1/tokens/{token}',
    summary: 'Revoke a token',
    tag: 'access',
    cli: ['token revoke'],
    status: 204,
    change: true,
  }),
} as const satisfies Record<string, Route>;
