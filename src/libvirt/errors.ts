import { errorCodeName, errorDomainName } from './error-names.ts';
import type { WireError } from './types.ts';

/**
 * What went wrong, roughly:
 * - `libvirt`: the daemon answered with an error (`code`, `codeName`, `domain` … are its own);
 * - `argument`: a value given by the caller cannot be sent; nothing was sent;
 * - `timeout`, `aborted`: this side stopped waiting; the daemon may still be doing what was asked;
 * - `busy`: too many calls are waiting already; nothing was sent;
 * - `connect`: no connection could be made; nothing was sent;
 * - `auth`: the daemon wants an authentication that this client does not speak;
 * - `closed`: the connection ended before the answer; whether the call was carried out is unknown;
 * - `protocol`: the other side does not speak the protocol; the connection was closed.
 */
export type ErrorKind =
  | 'libvirt'
  | 'argument'
  | 'timeout'
  | 'aborted'
  | 'busy'
  | 'connect'
  | 'auth'
  | 'closed'
  | 'protocol';

interface LibvirtErrorOptions {
  readonly cause?: unknown;
  readonly wire?: WireError;
  readonly procedure?: string;
}

/** The one error class of this client. `instanceof LibvirtError` first, then `kind` or `codeName`. */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError';
  readonly kind: ErrorKind;
  /** libvirt's error number (virErrorNumber); 0 unless the kind is `libvirt`. */
  readonly code: number = 0;
  /** libvirt's name of the number, such as `VIR_ERR_NO_DOMAIN`; otherwise the kind in capitals, such as `TIMEOUT`. */
  readonly codeName: string;
  /** The part of libvirt that raised it (virErrorDomain), and its name, such as `VIR_FROM_QEMU`. */
  readonly domain: number = 0;
  readonly domainName: string = 'VIR_FROM_NONE';
  /** libvirt's level: 1 warning, 2 error. */
  readonly level: number = 2;
  readonly str1: string | null = null;
  readonly str2: string | null = null;
  readonly str3: string | null = null;
  readonly int1: number = 0;
  readonly int2: number = 0;
  /** The procedure that failed, where it was one. */
  readonly procedure: string | undefined;

  constructor(kind: ErrorKind, message: string, options: LibvirtErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.kind = kind;
    this.codeName = kind.toUpperCase();
    this.procedure = options.procedure;
    const { wire } = options;
    if (wire === undefined) return;
    this.code = wire.code;
    this.codeName = errorCodeName(wire.code);
    this.domain = wire.domain;
    this.domainName = errorDomainName(wire.domain);
    this.level = wire.level;
    this.str1 = wire.str1;
    this.str2 = wire.str2;
    this.str3 = wire.str3;
    this.int1 = wire.int1;
    this.int2 = wire.int2;
  }

  static protocol(message: string, cause?: unknown): LibvirtError {
    return new LibvirtError('protocol', `libvirt protocol error: ${message}`, cause === undefined ? {} : { cause });
  }

  static argument(message: string): LibvirtError {
    return new LibvirtError('argument', message);
  }

  static wire(wire: WireError, procedure: string): LibvirtError {
    const message = wire.message ?? `libvirt error ${wire.code} without a message`;
    return new LibvirtError('libvirt', message, { wire, procedure });
  }
}

/** Whether this is an error of libvirt with that name: `isLibvirtCode(error, 'VIR_ERR_NO_DOMAIN')`. */
export function isLibvirtCode(error: unknown, ...codeNames: readonly string[]): error is LibvirtError {
  return error instanceof LibvirtError && error.kind === 'libvirt' && codeNames.includes(error.codeName);
}
