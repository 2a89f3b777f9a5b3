import { CONNECT_PROCEDURES } from './procedures-connect.ts';
import { DOMAIN_PROCEDURES } from './procedures-domain.ts';
import { RESOURCE_PROCEDURES } from './procedures-resource.ts';
import type { CallOptions } from './deadline.ts';
import type { Args, Procedure, StreamDirection, Struct } from './schema.ts';

/** Every procedure this client knows, by libvirt's name. */
export const PROCEDURES = { ...CONNECT_PROCEDURES, ...DOMAIN_PROCEDURES, ...RESOURCE_PROCEDURES };

export type Procedures = typeof PROCEDURES;
/** Name of a procedure, such as `domainGetState`. */
export type ProcedureName = keyof Procedures;

/** Arguments of a procedure; optional ones and flags may be left out. */
export type CallArgs<N extends ProcedureName> =
  Procedures[N] extends Procedure<infer A, infer _R, infer _S> ? Args<A> : never;

/** Result of a procedure: its out fields by name (an empty object where it has none). */
export type CallResult<N extends ProcedureName> =
  Procedures[N] extends Procedure<infer _A, infer R, infer _S> ? Struct<R> : never;

/** Names of the procedures that open a stream. */
export type StreamName = {
  [N in ProcedureName]: Procedures[N] extends { readonly stream: StreamDirection } ? N : never;
}[ProcedureName];

/** What follows the name in a call: the arguments, then the limits of the waiting. */
export type CallRest<N extends ProcedureName> =
  object extends CallArgs<N> ? [args?: CallArgs<N>, options?: CallOptions] : [args: CallArgs<N>, options?: CallOptions];
