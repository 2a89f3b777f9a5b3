/** Requests against the route's schemas: nothing is removed or filled in, and only query strings are coerced. */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import type { Route } from '../../api/routes.ts';
import { VirgaError } from '../../core/errors.ts';
import { namePattern } from '../../core/model/resource.ts';

const settings = {
  removeAdditional: false,
  useDefaults: false,
  allErrors: false,
  strict: false,
  verbose: true,
} as const;
const formats = {
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/,
};

/** A validator as this product uses them everywhere; `coerce` only for query strings. */
export function newValidator(coerce = false): Ajv {
  return new Ajv({ ...settings, coerceTypes: coerce, formats });
}
const bodies = newValidator();
const queries = newValidator(true);

export interface Validator {
  /** @throws VirgaError invalid_request · invalid_name */
  body(value: unknown): void;
  query(value: unknown): void;
}

export function validatorOf(route: Route): Validator {
  const body = route.body ? bodies.compile(route.body) : undefined;
  const query = route.query ? queries.compile(route.query) : undefined;
  const kind = route.tag.replace(/s$/, '');
  return {
    body(value) {
      if (body) check(body, 'body', kind, value);
      else if (value !== undefined && value !== null && route.requestBytes !== true)
        throw new VirgaError('invalid_request', { detail: 'this request takes no body' });
    },
    query(value) {
      if (query) check(query, 'query', kind, value);
      else if (Object.keys((value as object | undefined) ?? {}).length > 0)
        throw new VirgaError('invalid_request', { detail: 'this request takes no query' });
    },
  };
}

function check(validate: ValidateFunction, part: string, kind: string, value: unknown): void {
  if (validate(value)) return;
  const [error] = validate.errors ?? [];
  throw error ? toError(error, part, kind) : new VirgaError('invalid_request', { detail: `the ${part} is not valid` });
}

function toError(error: ErrorObject, part: string, kind: string): VirgaError {
  const schema = error.parentSchema as { pattern?: string } | undefined;
  if (schema?.pattern === namePattern && typeof error.data === 'string')
    return new VirgaError('invalid_name', { kind, name: error.data.slice(0, 80) });
  return new VirgaError('invalid_request', { detail: sentence(error, part) });
}

function sentence({ keyword, params, instancePath, message }: ErrorObject, part: string): string {
  const where = `${part}${instancePath}`;
  const extra = (params as { additionalProperty?: string }).additionalProperty;
  if (keyword === 'additionalProperties') return `${where} has no field "${String(extra).slice(0, 80)}"`;
  const allowed = (params as { allowedValues?: readonly unknown[] }).allowedValues;
  if (keyword === 'enum' && allowed) return `${where} must be one of ${allowed.join(', ')}`;
  return `${where} ${message ?? 'is not valid'}`;
}
