/**
 * One schema is the type, the validator and the OpenAPI document. Shapes only: what a value means is judged in
 * `src/core/requests`. Instants are RFC 3339 in UTC; their keys end in `At`.
 */
import Type, { type TSchema } from 'typebox';
import { namePattern } from '../../core/model/resource.ts';
import { labelKeyPattern, limits } from '../../core/requests/check.ts';

/** Requests refuse unknown fields, answers may grow. */
const strict = { additionalProperties: false } as const;
export const Obj = <P extends Record<string, TSchema>>(properties: P, options: { description?: string } = {}) =>
  Type.Object(properties, { ...strict, ...options });
export const Enum = <const V extends readonly string[]>(values: V, description?: string) =>
  Type.Unsafe<V[number]>({ type: 'string', enum: [...values], ...(description ? { description } : {}) });
export const Opt = Type.Optional;

export const Name = Type.String({ pattern: namePattern, maxLength: 63, description: 'RFC 1123 label' });
export const Reference = Type.String({ minLength: 1, maxLength: 63, description: 'Name or UUID' });
export const At = Type.String({ format: 'date-time', description: 'RFC 3339, UTC' });
export const Id = Type.String({ format: 'uuid' });
const LabelKey = Type.String({ pattern: labelKeyPattern });
const LabelValue = Type.String({ maxLength: limits.labelValue });
export const Labels = Type.Record(LabelKey, LabelValue, {
  maxProperties: limits.labels,
  description: `Up to ${limits.labels} labels; keys of letters, digits and . _ / -, at most ${limits.labelKey} long`,
});
export const LabelChange = Type.Record(LabelKey, Type.Union([LabelValue, Type.Null()]), {
  maxProperties: 2 * limits.labels,
  description: 'null removes a label',
});
export const Cpus = Type.Integer({ minimum: 1, maximum: limits.cpus });
export const MemoryMiB = Type.Integer({
  minimum: limits.smallestMemoryMiB,
  maximum: limits.memoryMiB,
  description: 'MiB',
});
export const DiskMiB = (description: string) => Type.Integer({ minimum: 1, maximum: limits.diskMiB, description });
export const Grace = Type.Integer({ minimum: 0, maximum: limits.graceSeconds });
export const Sha512 = Type.String({ pattern: '^[0-9a-f]{128}$', description: 'Hexadecimal' });

export const Condition = Obj({
  type: Type.String(),
  status: Enum(['true', 'false', 'unknown']),
  reason: Type.String(),
  message: Type.String(),
  sinceAt: At,
});
export const meta = {
  id: Id,
  name: Name,
  owner: Type.String(),
  community: Type.String(),
  labels: Labels,
  generation: Type.Integer({ description: 'Rises when the spec changes' }),
  revision: Type.Integer({ description: 'Of the last change of any kind; the ETag' }),
  createdAt: At,
  updatedAt: At,
  deletionAt: Opt(At),
  origin: Opt(Type.String({ description: 'The site file that created it' })),
  conditions: Type.Array(Condition),
};
export const Resources = Obj({ cpus: Type.Number(), memoryMiB: Type.Number(), diskMiB: Type.Number() });
export const Session = Obj({ number: Type.Integer(), id: Id });

export const ImageFormat = Enum(['raw', 'qcow2']);
