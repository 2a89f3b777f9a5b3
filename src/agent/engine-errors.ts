import { VirgaError } from '../core/errors.ts';
import { LibvirtError } from '../libvirt/index.ts';

/** libvirt's refusals become `engine`; everything that leaves the outcome open becomes `timeout`. */
export function engineError(error: unknown, host: string): VirgaError {
  if (error instanceof VirgaError) return error;
  if (error instanceof LibvirtError && (error.kind === 'libvirt' || error.kind === 'argument'))
    return new VirgaError('engine', { host, detail: error.message }, { cause: error });
  if (error instanceof LibvirtError) {
    const seconds = error.kind === 'timeout' ? 30 : 0;
    return new VirgaError('timeout', { what: `libvirt (${error.message})`, seconds }, { cause: error });
  }
  const detail = error instanceof Error ? error.message : String(error);
  return new VirgaError('engine', { host, detail }, { cause: error });
}
