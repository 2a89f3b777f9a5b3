import { VirgaError } from '../errors.ts';
import type { GuestNic } from '../model/guest.ts';
import type { AddressRange, Network } from '../model/network.ts';
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { formatAddress, parseAddress } from './address.ts';

/** QEMU's and libvirt's customary prefix: locally administered, unicast. */
const macPrefix = '52:54:00';
const macTries = 32;

interface Pool {
  /** Canonical addresses that are given. */
  readonly used: Set<string>;
  /** Per family, the first address that may still be free. */
  readonly next: { 4: bigint; 6: bigint };
}

/** Gives MAC and IP addresses in one request: nothing twice, the lowest free first. */
export class Addresses {
  readonly #uuid: () => Uuid;
  readonly #macs = new Set<string>();
  readonly #pools = new Map<Uuid, Pool>();

  constructor(snapshot: Snapshot, uuid: () => Uuid) {
    this.#uuid = uuid;
    for (const guest of snapshot.all('guest')) {
      for (const nic of guest.spec.nics) {
        this.#macs.add(nic.mac);
        const { used } = this.#pool(nic.networkId);
        if (nic.ipv4 !== undefined) used.add(nic.ipv4);
        if (nic.ipv6 !== undefined) used.add(nic.ipv6);
      }
    }
  }

  /** Unique in the site, from the random end of a UUID. */
  mac(): string {
    for (let tries = 0; tries < macTries; tries += 1) {
      const digits = this.#uuid().replaceAll('-', '').slice(-6).toLowerCase();
      const mac = `${macPrefix}:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4, 6)}`;
      if (this.#macs.has(mac)) continue;
      this.#macs.add(mac);
      return mac;
    }
    return this.#lowestMac();
  }

  #lowestMac(): string {
    for (let number = 0; number < 2 ** 24; number += 1) {
      const digits = number.toString(16).padStart(6, '0');
      const mac = `${macPrefix}:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4, 6)}`;
      if (this.#macs.has(mac)) continue;
      this.#macs.add(mac);
      return mac;
    }
    throw new VirgaError('limit', {
      what: 'the number of MAC addresses in use',
      value: this.#macs.size,
      limit: 2 ** 24,
      how: 'Delete guests that are not needed.',
    });
  }

  /** One interface in the network; `fixed` is an address of either family that was asked for. */
  nic(network: Network, fixed?: string): GuestNic {
    const wish = fixed === undefined ? undefined : this.#fixed(network, fixed);
    const ipv4 = wish?.family === 4 ? wish.text : this.#free(network, 4);
    const ipv6 = wish?.family === 6 ? wish.text : this.#free(network, 6);
    return {
      networkId: network.id,
      mac: this.mac(),
      ...(ipv4 === undefined ? {} : { ipv4 }),
      ...(ipv6 === undefined ? {} : { ipv6 }),
    };
  }

  #pool(networkId: Uuid): Pool {
    const known = this.#pools.get(networkId);
    if (known) return known;
    const pool: Pool = { used: new Set(), next: { 4: 0n, 6: 0n } };
    this.#pools.set(networkId, pool);
    return pool;
  }

  #fixed(network: Network, text: string): { family: 4 | 6; text: string } {
    const address = parseAddress(text);
    if (!address) throw refused(`"${text}" is not an address`);
    const { family, value } = address;
    const range = rangeOf(network, family);
    if (!range) throw refused(`the network "${network.name}" has no IPv${family} address range`);
    const [from, to] = ends(range);
    if (value < from || value > to)
      throw refused(
        `${text} is outside the address range ${range.from} to ${range.to} of the network "${network.name}"`,
      );
    const canonical = formatAddress(family, value);
    const { used } = this.#pool(network.id);
    if (used.has(canonical))
      throw new VirgaError('in_use', { kind: 'address', name: canonical, users: `a guest of "${network.name}"` });
    used.add(canonical);
    return { family, text: canonical };
  }

  #free(network: Network, family: 4 | 6): string | undefined {
    const range = rangeOf(network, family);
    if (!range) return undefined;
    const [from, to] = ends(range);
    const pool = this.#pool(network.id);
    let value = pool.next[family] > from ? pool.next[family] : from;
    for (; value <= to; value += 1n) {
      const text = formatAddress(family, value);
      if (pool.used.has(text)) continue;
      pool.used.add(text);
      pool.next[family] = value + 1n;
      return text;
    }
    pool.next[family] = value;
    const size = to - from + 1n;
    throw new VirgaError('address_range_full', { name: network.name, used: String(size), size: String(size) });
  }
}

function refused(detail: string): VirgaError {
  return new VirgaError('invalid_request', { detail });
}

function rangeOf(network: Network, family: 4 | 6): AddressRange | undefined {
  return family === 4 ? network.spec.ipv4 : network.spec.ipv6;
}

/** Ranges were checked when the network was made; one that cannot be read gives nothing. */
function ends(range: AddressRange): readonly [bigint, bigint] {
  const from = parseAddress(range.from);
  const to = parseAddress(range.to);
  return from && to ? [from.value, to.value] : [1n, 0n];
}
