/** All schemas; one is the type, the validator and the OpenAPI document. */
import type { Static } from 'typebox';
import type { Host } from './schemas/hosts.ts';
import type { Guest, Explanation } from './schemas/guests.ts';
import type { Image } from './schemas/images.ts';
import type { Network } from './schemas/networks.ts';
import type { Token, Invite } from './schemas/access.ts';
import type { FenceHistory, Fencing, HostLease, Leases, LossPlan, Voter } from './schemas/leases.ts';
import type { SiteEvent, SiteSettings, SiteStatus, Review } from './schemas/site.ts';

export { At, Name, Obj, Reference } from './schemas/common.ts';
export * from './schemas/hosts.ts';
export * from './schemas/guests.ts';
export * from './schemas/images.ts';
export * from './schemas/networks.ts';
export * from './schemas/access.ts';
export * from './schemas/leases.ts';
export * from './schemas/site.ts';

export type HostView = Static<typeof Host>;
export type GuestView = Static<typeof Guest>;
export type ImageView = Static<typeof Image>;
export type NetworkView = Static<typeof Network>;
export type TokenView = Static<typeof Token>;
export type InviteView = Static<typeof Invite>;
export type EventView = Static<typeof SiteEvent>;
export type SiteStatusView = Static<typeof SiteStatus>;
export type ReviewView = Static<typeof Review>;
export type ExplanationView = Static<typeof Explanation>;
export type LeasesView = Static<typeof Leases>;
export type HostLeaseView = Static<typeof HostLease>;
export type VoterView = Static<typeof Voter>;
export type LossPlanView = Static<typeof LossPlan>;
export type FencingView = Static<typeof Fencing>;
export type SiteSettingsView = Static<typeof SiteSettings>;
export type FenceHistoryView = Static<typeof FenceHistory>;
