/**
 * Addresses and subnets as numbers. Text forms: IPv4 dotted decimal without leading zeros (RFC 6943, section 3.1.1),
 * IPv6 as RFC 4291 reads and RFC 5952 writes.
 */
export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

export interface Subnet {
  readonly family: 4 | 6;
  readonly prefix: number;
  /** Its lowest and highest address. */
  readonly first: bigint;
  readonly last: bigint;
}

export function bits(family: 4 | 6): number {
  return family === 4 ? 32 : 128;
}

/** Undefined: not an address. */
export function parseAddress(text: string): Address | undefined {
  if (text.includes(':')) return parse6(text);
  const value = parse4(text);
  return value === undefined ? undefined : { family: 4, value };
}

function parse4(text: string): bigint | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  let value = 0n;
  for (const part of match.slice(1)) {
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return undefined;
    value = value * 256n + BigInt(part);
  }
  return value;
}

function parse6(text: string): Address | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = words(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? words(halves[1] ?? '', true) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  let value = 0n;
  for (const word of [...head, ...Array.from({ length: missing }, () => 0), ...tail])
    value = value * 65536n + BigInt(word);
  return { family: 6, value };
}

/** 16-bit words of one side of `::`; the very end may be written as IPv4. */
function words(text: string, atEnd: boolean): readonly number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const all: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      all.push(Number.parseInt(part, 16));
      continue;
    }
    const last4 = atEnd && index === parts.length - 1 ? parse4(part) : undefined;
    if (last4 === undefined) return undefined;
    all.push(Number(last4 >> 16n), Number(last4 & 0xffffn));
  }
  return all;
}

/** The canonical text. */
export function formatAddress(family: 4 | 6, value: bigint): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join('.');
  const parts = Array.from({ length: 8 }, (_, index) => Number((value >> BigInt(112 - 16 * index)) & 0xffffn));
  const run = longestZeros(parts);
  const hex = parts.map((part) => part.toString(16));
  if (run.length < 2) return hex.join(':');
  return `${hex.slice(0, run.start).join(':')}::${hex.slice(run.start + run.length).join(':')}`;
}

function longestZeros(parts: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let index = 0; index <= parts.length; index += 1) {
    if (parts[index] === 0) continue;
    if (index - start > best.length) best = { start, length: index - start };
    start = index + 1;
  }
  return best;
}

/** Undefined: not a subnet in CIDR notation, or bits set behind its prefix. */
export function parseSubnet(text: string): Subnet | undefined {
  const [left = '', right = '', ...more] = text.split('/');
  const address = parseAddress(left);
  if (!address || more.length > 0 || !/^(0|[1-9]\d{0,2})$/.test(right)) return undefined;
  const prefix = Number(right);
  const width = bits(address.family);
  if (prefix > width) return undefined;
  const size = 1n << BigInt(width - prefix);
  if (address.value % size !== 0n) return undefined;
  return { family: address.family, prefix, first: address.value, last: address.value + size - 1n };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatAddress(subnet.family, subnet.first)}/${subnet.prefix}`;
}

export function overlap(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

/**
 * First and last address that a machine may have. IPv4: not the network's and broadcast address (RFC 3021 makes an
 * exception of /31); IPv6: not the subnet-router anycast address (RFC 4291, section 2.6.1).
 */
export function usable(subnet: Subnet): { first: bigint; last: bigint } {
  const { family, prefix, first, last } = subnet;
  if (prefix >= bits(family) - 1) return { first, last };
  return { first: first + 1n, last: family === 4 ? last - 1n : last };
}
