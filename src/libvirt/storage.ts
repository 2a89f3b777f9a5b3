import type { CallOptions } from './deadline.ts';
import type { LibvirtSession } from './session.ts';
import type { LibvirtStream, StreamOptions } from './streams.ts';
import type { Pool, Vol } from './types.ts';

/** Which part of a volume, and the bounds of the transfer. */
export interface TransferOptions extends CallOptions, StreamOptions {
  /** First byte (default 0). */
  readonly offset?: bigint;
  /** Bytes; 0 (default): to the end. */
  readonly length?: bigint;
}

/** Pools and volumes. Every method throws `LibvirtError`. */
export class StorageClient {
  readonly #session: LibvirtSession;

  constructor(session: LibvirtSession) {
    this.#session = session;
  }

  async listPools(flags = 0): Promise<readonly Pool[]> {
    return (await this.#session.call('connectListAllStoragePools', { needResults: 1, flags })).pools;
  }

  async lookupPool(name: string): Promise<Pool> {
    return (await this.#session.call('storagePoolLookupByName', { name })).pool;
  }

  /** Defines a pool; it must be built where its folder does not exist, and started. */
  async definePool(xml: string): Promise<Pool> {
    return (await this.#session.call('storagePoolDefineXML', { xml })).pool;
  }

  async buildPool(pool: Pool): Promise<void> {
    await this.#session.slow.call('storagePoolBuild', { pool });
  }

  async startPool(pool: Pool): Promise<void> {
    await this.#session.slow.call('storagePoolCreate', { pool });
  }

  /** Stops the pool; its volumes stay. */
  async stopPool(pool: Pool): Promise<void> {
    await this.#session.slow.call('storagePoolDestroy', { pool });
  }

  async undefinePool(pool: Pool): Promise<void> {
    await this.#session.call('storagePoolUndefine', { pool });
  }

  /** Looks for volumes that came or went behind libvirt's back. */
  async refreshPool(pool: Pool): Promise<void> {
    await this.#session.slow.call('storagePoolRefresh', { pool });
  }

  /** Sizes in bytes. */
  async poolInfo(pool: Pool): Promise<{ state: number; capacity: bigint; allocation: bigint; available: bigint }> {
    return this.#session.call('storagePoolGetInfo', { pool });
  }

  async listVolumes(pool: Pool): Promise<readonly Vol[]> {
    return (await this.#session.call('storagePoolListAllVolumes', { pool, needResults: 1 })).vols;
  }

  async lookupVolume(pool: Pool, name: string): Promise<Vol> {
    return (await this.#session.call('storageVolLookupByName', { pool, name })).vol;
  }

  async createVolume(pool: Pool, xml: string, options?: CallOptions): Promise<Vol> {
    return (await this.#session.slow.call('storageVolCreateXML', { pool, xml }, options)).vol;
  }

  async deleteVolume(vol: Vol): Promise<void> {
    await this.#session.slow.call('storageVolDelete', { vol });
  }

  /** @param capacity new size in bytes */
  async resizeVolume(vol: Vol, capacity: bigint): Promise<void> {
    await this.#session.slow.call('storageVolResize', { vol, capacity });
  }

  /** Sizes in bytes. */
  async volumeInfo(vol: Vol): Promise<{ type: number; capacity: bigint; allocation: bigint }> {
    return this.#session.call('storageVolGetInfoFlags', { vol });
  }

  async volumePath(vol: Vol): Promise<string> {
    return (await this.#session.call('storageVolGetPath', { vol })).name;
  }

  async volumeXml(vol: Vol): Promise<string> {
    return (await this.#session.call('storageVolGetXMLDesc', { vol })).xml;
  }

  /** A writable stream into the volume; `finish` means that libvirt has taken everything. */
  async upload(vol: Vol, options: TransferOptions = {}): Promise<LibvirtStream> {
    const { offset = 0n, length = 0n, ...limits } = options;
    return (await this.#session.openStream('storageVolUpload', { vol, offset, length }, limits)).stream;
  }

  /** A readable stream of the volume's bytes. What is not read stops the daemon from sending. */
  async download(vol: Vol, options: TransferOptions = {}): Promise<LibvirtStream> {
    const { offset = 0n, length = 0n, ...limits } = options;
    return (await this.#session.openStream('storageVolDownload', { vol, offset, length }, limits)).stream;
  }
}
