/** The door through which cli, web and controller reach the one error registry. */
import Type from 'typebox';
import { errorRegistry, VirgaError, type ErrorBody, type ErrorCode, type ErrorValues } from '../core/errors.ts';

export { errorRegistry, VirgaError };
export type { ErrorBody, ErrorCode, ErrorValues };

export const ErrorAnswer = Type.Object({
  error: Type.Object({
    code: Type.Unsafe<ErrorCode>({ type: 'string', enum: Object.keys(errorRegistry) }),
    message: Type.String(),
    hint: Type.String(),
    values: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
  }),
});

/** Turns what the API sent back into the error it was. */
export function errorFromBody(body: unknown): VirgaError | undefined {
  const error = (body as Partial<ErrorBody> | undefined)?.error;
  if (!error || !Object.hasOwn(errorRegistry, error.code)) return undefined;
  return new VirgaError(error.code, error.values);
}
