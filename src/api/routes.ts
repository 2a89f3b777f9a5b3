/** The route table, whole. See `routes/common.ts` for what a route says. */
import type { Static, TSchema } from 'typebox';
import { siteRoutes } from './routes/site.ts';
import { hostsRoutes } from './routes/hosts.ts';
import { leasesRoutes } from './routes/leases.ts';
import { guestsRoutes } from './routes/guests.ts';
import { imagesRoutes } from './routes/images.ts';
import { networksRoutes } from './routes/networks.ts';
import { accessRoutes } from './routes/access.ts';
import { healthRoutes } from './routes/health.ts';
import type { Route } from './routes/common.ts';

export { Page, type Method, type Route } from './routes/common.ts';

export const routes = {
  ...siteRoutes,
  ...hostsRoutes,
  ...leasesRoutes,
  ...guestsRoutes,
  ...imagesRoutes,
  ...networksRoutes,
  ...accessRoutes,
  ...healthRoutes,
} as const satisfies Record<string, Route>;

export type Routes = typeof routes;
export type Operation = keyof Routes;

type ParamsOf<P extends string> = P extends `${string}{${infer Name}}${infer Rest}` ? Name | ParamsOf<Rest> : never;
export type Params<O extends Operation> = Record<ParamsOf<Routes[O]['path']>, string>;
type StaticOf<T> = T extends TSchema ? Static<T> : undefined;
export type Query<O extends Operation> = Routes[O] extends { query: infer Q } ? StaticOf<Q> : undefined;
export type Body<O extends Operation> = Routes[O] extends { body: infer B } ? StaticOf<B> : undefined;
export type Answer<O extends Operation> = Routes[O] extends { answer: infer A } ? StaticOf<A> : undefined;
