import type { Instant, Resource, Uuid } from './resource.ts';

/** What a token may do. `admin`: everything · `read`: look only. */
export type Role = 'admin' | 'read';

export interface TokenSpec {
  /** SHA-256 (hex) of the secret; the secret itself is shown once and never kept. Never presented. */
  readonly secretHash: string;
  readonly role: Role;
  readonly expiresAt: Instant;
}
export interface TokenStatus {
  /** Rounded to the minute, so that reading does not write at every request. */
  readonly lastUsedAt?: Instant;
}
/** A service token: random, hashed, expiring, owned by a named person. */
export type Token = Resource<'token', TokenSpec, TokenStatus>;

export interface InviteSpec {
  /** SHA-256 (hex). Never presented. */
  readonly secretHash: string;
  readonly expiresAt: Instant;
  /** Name the new host will have; absent: the host's own name. */
  readonly hostName?: string;
  /** `host` when absent. */
  readonly role?: 'host' | 'witness';
}
export interface InviteStatus {
  readonly usedAt?: Instant;
  readonly hostId?: Uuid;
}
/** A one-time invitation for a host to join. */
export type Invite = Resource<'invite', InviteSpec, InviteStatus>;

/** Who does something, and why. Goes into every record. */
export interface Actor {
  /** `local:root` (unix socket, peer uid) · `token:NAME` · `virga` (the product itself) · `host:NAME`. */
  readonly who: string;
  readonly role: Role;
  readonly community: string;
  readonly reason?: string;
}
