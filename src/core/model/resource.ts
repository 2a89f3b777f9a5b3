/**
 * What every object of a site has in common. Documents are plain data: the store keeps them, the loops decide on them,
 * the API presents them (see `src/api/present.ts`).
 *
 * Instants are milliseconds since 1970-01-01 UTC and their keys end in `At`; the API shows them as RFC 3339.
 * Sizes say their unit in the key: `memoryMiB`, `sizeBytes`.
 */
export type Uuid = string;
/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Instant = number;

export type Kind = 'host' | 'guest' | 'image' | 'network' | 'token' | 'invite';
export const kinds: readonly Kind[] = ['host', 'guest', 'image', 'network', 'token', 'invite'];

/** A fact about an object that a person or a program may wait for, with its reason. */
export interface Condition {
  /** e.g. `Placed`, `Ready`, `Schedulable`; see `conditions.ts`. */
  readonly type: string;
  readonly status: 'true' | 'false' | 'unknown';
  /** One CamelCase word, stable, for programs. */
  readonly reason: string;
  /** One sentence, for people. */
  readonly message: string;
  readonly sinceAt: Instant;
}

export interface Meta {
  readonly id: Uuid;
  /** Unique within its kind. */
  readonly name: string;
  /** The person who owns it (`local:root` until identities arrive). */
  readonly owner: string;
  /** The community (virtual organization) it belongs to. */
  readonly community: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Rises by one whenever the spec changes. */
  readonly generation: number;
  /** The store's revision of the last change of any kind; the ETag. Given by the store at commit; 0 before. */
  readonly revision: number;
  readonly createdAt: Instant;
  readonly updatedAt: Instant;
  /** Set when deletion was asked for; the object goes when nothing of it is left. */
  readonly deletionAt?: Instant;
  /** The `site:` name of the site file that created it; `apply --prune` removes only these. */
  readonly origin?: string;
  /** Set with every write, see `conditions.ts`. */
  readonly conditions: readonly Condition[];
}

export interface Resource<K extends Kind, Spec, Status> extends Meta {
  readonly kind: K;
  readonly spec: Spec;
  readonly status: Status;
}

/** Names become host names of guests and parts of file names: RFC 1123 label, at most 63 characters. */
export const namePattern = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
