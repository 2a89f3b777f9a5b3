/**
 * The one route table: the controller serves it, the OpenAPI document and the reference are made from it, and the client
 * is typed by it. Paths take names or UUIDs. Every change may carry `Virga-Reason` (percent-encoded UTF-8), `If-Match`
 * (the ETag that was read) and, on creation, `Idempotency-Key`.
 */
import Type, { type TSchema } from 'typebox';
import * as s from '../schemas.ts';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'HEAD';

export interface Route {
  readonly method: Method;
  readonly path: string;
  readonly summary: string;
  readonly tag: 'site' | 'hosts' | 'leases' | 'guests' | 'images' | 'networks' | 'access' | 'health';
  /** Commands that use it; the tidy test holds that each exists. */
  readonly cli: readonly string[];
  readonly query?: TSchema;
  readonly body?: TSchema;
  readonly answer?: TSchema;
  readonly status: number;
  /** Takes `Idempotency-Key`. */
  readonly idempotent?: true;
  /** What the answer is when it is not one JSON document. */
  readonly stream?: 'events' | 'bytes' | 'websocket' | 'text';
  readonly requestBytes?: true;
  /** Needs no credentials. */
  readonly open?: true;
  /** Needs the role `admin`. */
  readonly change?: true;
}

export const route = <const R extends Route>(definition: R): R => definition;
export const Opt = Type.Optional;
export const Int = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

export const Page = <T extends TSchema>(item: T) =>
  s.Obj({
    items: Type.Array(item),
    next: Opt(Type.String({ description: 'Cursor of the next page; absent on the last' })),
    revision: Type.Integer({ description: 'Watch from here' }),
  });
export const paging = { limit: Opt(Int(1, 20_000)), cursor: Opt(Type.String({ maxLength: 512 })) };
export const named = {
  ...paging,
  label: Opt(Type.String({ maxLength: 1024 })),
  name: Opt(Type.String({ maxLength: 63 })),
};
export const Plain = s.Obj(named);
export const Empty = s.Obj({});
