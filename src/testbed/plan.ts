import type { AddressPlan } from './types.ts';

const v4 = '10.77.0';
const v6 = 'fd77:7669:7267:1';
/** The second network, a /24. */
const second4 = '10.78.0';

/** The one address plan (a /22, so that a thousand guests fit). */
export const addressPlan: AddressPlan = {
  gateway: `${v4}.1`,
  gateway6: `${v6}::1`,
  second: `${second4}.1`,
  subnet: `${v4}.0/22`,
  subnet6: `${v6}::/64`,
  guestsFirst: `${v4}.100`,
  guestsLast: '10.77.3.254',
  guests6First: `${v6}::100`,
  guests6Last: `${v6}::ffff`,
  mtu: 1500,
};

/** Prefix lengths of the two subnets. */
export const prefix4 = 22;
export const prefix6 = 64;

/** Addresses of the host with this index (0 is the first). */
export function hostAddress(index: number): { address: string; address2: string; address6: string; mac: string } {
  const n = 11 + index;
  return {
    address: `${v4}.${n}`,
    address2: `${second4}.${n}`,
    address6: `${v6}::${n.toString(16)}`,
    mac: `02:76:67:00:00:${n.toString(16).padStart(2, '0')}`,
  };
}

/** The guest address number `index` (0 is the first; up to 900), for tests that make guests without a manager. */
export function guestAddress(index: number): { address: string; address6: string; mac: string } {
  if (!Number.isInteger(index) || index < 0 || index > 900) throw new RangeError(`no guest address number ${index}`);
  const n = 100 + index;
  return {
    address: `10.77.${n >> 8}.${n & 255}`,
    address6: `${v6}::${(0x100 + index).toString(16)}`,
    mac: `52:54:00:77:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`,
  };
}
