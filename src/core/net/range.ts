import { VirgaError } from '../errors.ts';
import type { AddressRange, NetworkMode } from '../model/network.ts';
import type { Subnet } from './address.ts';
import { formatAddress, formatSubnet, parseAddress, parseSubnet, usable } from './address.ts';

interface RangeWish {
  readonly cidr: string;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly gateway?: string | undefined;
}

function refused(detail: string): VirgaError {
  return new VirgaError('invalid_request', { detail });
}

/**
 * Checks a range and completes it. A NAT network's gateway is its first usable address unless given. Without `from` and
 * `to` the range is the whole subnet but its network, broadcast and gateway addresses; where the gateway lies in the
 * middle, the larger part. The gateway never lies within the range.
 */
export function rangeFrom(wish: RangeWish, family: 4 | 6, mode: NetworkMode): AddressRange {
  const subnet = parseSubnet(wish.cidr);
  if (subnet?.family !== family)
    throw refused(`"${wish.cidr}" is not an IPv${family} subnet in CIDR notation, such as ${example(family)}`);
  const { first, last } = usable(subnet);
  if (last - first < 1n) throw refused(`the subnet ${wish.cidr} has no room for guests`);
  const gateway = gatewayOf(wish, subnet, mode === 'nat' ? first : undefined);
  const whole = besides(first, last, gateway);
  const givenFrom = wish.from === undefined ? undefined : within(subnet, 'first address', wish.from);
  const givenTo = wish.to === undefined ? undefined : within(subnet, 'last address', wish.to);
  const from = givenFrom ?? (givenTo === undefined ? whole.from : besides(first, givenTo, gateway).above);
  const to = givenTo ?? (givenFrom === undefined ? whole.to : besides(givenFrom, last, gateway).below);
  if (from > to) throw refused(`the range ${show(family, from)} to ${show(family, to)} is empty`);
  if (gateway !== undefined && gateway >= from && gateway <= to)
    throw refused(`the gateway ${show(family, gateway)} lies within the range of the guests' addresses`);
  return {
    cidr: formatSubnet(subnet),
    from: show(family, from),
    to: show(family, to),
    ...(gateway === undefined ? {} : { gateway: show(family, gateway) }),
  };
}

function example(family: 4 | 6): string {
  return family === 4 ? '10.77.0.0/24 (no bits behind the prefix)' : 'fd77::/64 (no bits behind the prefix)';
}

function show(family: 4 | 6, value: bigint): string {
  return formatAddress(family, value);
}

function gatewayOf(wish: RangeWish, subnet: Subnet, usual: bigint | undefined): bigint | undefined {
  if (wish.gateway === undefined) return usual;
  const address = parseAddress(wish.gateway);
  // A link-local gateway is how IPv6 routers announce themselves.
  if (address?.family === 6 && subnet.family === 6 && address.value >> 118n === 0x3fan) return address.value;
  return within(subnet, 'gateway', wish.gateway);
}

function within(subnet: Subnet, what: string, text: string): bigint {
  const address = parseAddress(text);
  const { first, last } = usable(subnet);
  if (address?.family !== subnet.family || address.value < first || address.value > last)
    throw refused(`the ${what} "${text}" is not a usable address of ${formatSubnet(subnet)}`);
  return address.value;
}

interface Besides {
  /** The larger part. */
  readonly from: bigint;
  readonly to: bigint;
  /** Where the part above the gateway begins, and the part below it ends. */
  readonly above: bigint;
  readonly below: bigint;
}

/** What is left between `first` and `last` when the gateway is taken out. */
function besides(first: bigint, last: bigint, gateway: bigint | undefined): Besides {
  if (gateway === undefined || gateway < first || gateway > last)
    return { from: first, to: last, above: first, below: last };
  const parts = { above: gateway + 1n, below: gateway - 1n };
  return last - gateway >= gateway - first
    ? { from: parts.above, to: last, ...parts }
    : { from: first, to: parts.below, ...parts };
}
