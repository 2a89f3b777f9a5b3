import Type from 'typebox';
import { Obj, Enum, Opt, Name, At, Labels, Sha512, meta, ImageFormat } from './common.ts';
import { limits } from '../../core/requests/check.ts';

export const Image = Obj({
  kind: Type.Literal('image'),
  ...meta,
  spec: Obj({ format: ImageFormat, description: Opt(Type.String()), expectedSha512: Opt(Sha512) }),
  status: Obj({
    state: Enum(['uploading', 'checking', 'ready', 'failed']),
    stateAt: At,
    sizeBytes: Type.Integer(),
    receivedBytes: Type.Integer(),
    givenSha512: Opt(Sha512),
    stored: Opt(Obj({ sha512: Sha512, sizeBytes: Type.Integer(), format: Type.Literal('qcow2') })),
    virtualBytes: Opt(Type.Integer()),
    error: Opt(Obj({ code: Type.String(), message: Type.String() })),
  }),
});
export const AddImage = Obj({
  name: Name,
  format: ImageFormat,
  sizeBytes: Type.Integer({ minimum: 1, maximum: limits.imageBytes }),
  sha512: Opt(Sha512),
  description: Opt(Type.String({ maxLength: limits.description })),
  labels: Opt(Labels),
  origin: Opt(Name),
});
export const Rename = Obj({ name: Name });
