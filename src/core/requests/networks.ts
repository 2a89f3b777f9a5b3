import { VirgaError } from '../errors.ts';
import type { Guest } from '../model/guest.ts';
import type { Network, NetworkSpec } from '../model/network.ts';
import type { Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { overlap, parseAddress, parseSubnet } from '../net/address.ts';
import { rangeFrom } from '../net/range.ts';
import { same, some } from '../util.ts';
import { checkFreeName, checkLabels, checkReason, checkWhole, invalid, newMeta } from './check.ts';
import type { NetworkInput } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, notUnderReview, nothing } from './result.ts';

/** IFNAMSIZ of Linux, less its final zero. */
const bridgeName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;
const domainName = /^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const dnsMost = 8;

export function createNetwork(snapshot: Snapshot, input: NetworkInput, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'create networks');
  checkFreeName(snapshot, 'network', input.name);
  const spec = specFor(snapshot, input, undefined);
  const draft = new Draft(context);
  const meta = newMeta(context, context.uuid(), input.name, input);
  const network: Network = { ...meta, kind: 'network', spec, status: { problems: [] } };
  draft.create(network);
  draft.event(network, {
    type: 'network.created',
    message: `the network ${input.name} was created (${spec.mode}, bridge ${spec.bridge})`,
  });
  return draft.finish();
}

/** The whole wish, as in a site file. What guests stand on stays: mode and bridge while in use, addresses given out. */
export function changeNetwork(
  snapshot: Snapshot,
  ref: string,
  input: NetworkInput,
  context: RequestContext,
): RequestResult {
  const network = resolve(snapshot, 'network', ref);
  mayChange(context, network, `change the network "${network.name}"`);
  checkReason(context);
  checkFreeName(snapshot, 'network', input.name, network.id);
  const spec = specFor(snapshot, input, network);
  const users = usersOf(snapshot, network.id);
  if (users.length > 0 && (spec.mode !== network.spec.mode || spec.bridge !== network.spec.bridge))
    throw inUse(network, users);
  keepGiven(network, spec, users);
  const labels = input.labels === undefined ? network.labels : checkLabels(input.labels);
  const next: Network = { ...network, name: input.name, labels, spec };
  const changed = !same(spec, network.spec);
  if (!changed && next.name === network.name && same(labels, network.labels)) return nothing();
  const draft = new Draft(context);
  draft.put(changed ? { ...next, generation: network.generation + 1 } : next);
  draft.event(network, { type: 'network.changed', message: `the network ${network.name} was changed` });
  return draft.finish();
}

export function deleteNetwork(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const network = resolve(snapshot, 'network', ref);
  mayChange(context, network, `delete the network "${network.name}"`);
  checkReason(context);
  notUnderReview(snapshot);
  const users = usersOf(snapshot, network.id);
  if (users.length > 0) throw inUse(network, users);
  const draft = new Draft(context);
  draft.remove(network);
  draft.event(network, { type: 'network.deleted', message: `the network ${network.name} was deleted` });
  return draft.finish();
}

function inUse(network: Network, users: readonly Guest[]): VirgaError {
  const names = users.map((guest) => guest.name).toSorted();
  return new VirgaError('in_use', { kind: 'network', name: network.name, users: `guests ${some(names)}` });
}

function usersOf(snapshot: Snapshot, networkId: Uuid): readonly Guest[] {
  const users: Guest[] = [];
  for (const guest of snapshot.all('guest'))
    if (guest.spec.nics.some((nic) => nic.networkId === networkId)) users.push(guest);
  return users;
}

/** Addresses that guests have must stay in their subnet, or the guests could not be reached any more. */
function keepGiven(network: Network, spec: NetworkSpec, users: readonly Guest[]): void {
  const v4 = spec.ipv4 && parseSubnet(spec.ipv4.cidr);
  const v6 = spec.ipv6 && parseSubnet(spec.ipv6.cidr);
  for (const guest of users) {
    for (const nic of guest.spec.nics) {
      if (nic.networkId !== network.id) continue;
      for (const [text, subnet] of [[nic.ipv4, v4] as const, [nic.ipv6, v6] as const]) {
        const value = text === undefined ? undefined : parseAddress(text)?.value;
        if (value === undefined) continue;
        if (!subnet || value < subnet.first || value > subnet.last)
          throw new VirgaError('in_use', { kind: 'address', name: text ?? '', users: `guest ${guest.name}` });
      }
    }
  }
}

function specFor(snapshot: Snapshot, input: NetworkInput, old: Network | undefined): NetworkSpec {
  const { mode } = input;
  if (mode === 'nat' && !input.ipv4 && !input.ipv6) throw invalid('a NAT network needs an address range');
  const bridge = bridgeFor(snapshot, input, old);
  const ipv4 = input.ipv4 && rangeFrom(input.ipv4, 4, mode);
  const ipv6 = input.ipv6 && rangeFrom(input.ipv6, 6, mode);
  if (input.mtu !== undefined) checkWhole('the MTU in bytes', input.mtu, ipv6 ? 1280 : 576, 65535);
  const spec: NetworkSpec = {
    mode,
    bridge,
    ...(ipv4 ? { ipv4 } : {}),
    ...(ipv6 ? { ipv6 } : {}),
    ...(input.mtu === undefined ? {} : { mtu: input.mtu }),
    dns: { servers: servers(input.dns?.servers ?? []), search: searches(input.dns?.search ?? []) },
  };
  apart(snapshot, spec, old?.id);
  return spec;
}

function bridgeFor(snapshot: Snapshot, input: NetworkInput, old: Network | undefined): string {
  const given = input.bridge ?? (old?.spec.mode === input.mode ? old.spec.bridge : undefined);
  if (given === undefined && input.mode === 'bridge') throw invalid('a bridge network needs the name of the bridge');
  if (given !== undefined && !bridgeName.test(given))
    throw invalid(`"${given.slice(0, 40)}" is not a name of a bridge (at most 15 letters, digits and _ . -)`);
  const others = [...snapshot.all('network')].filter((each) => each.id !== old?.id);
  const taken = (bridge: string): Network | undefined => others.find((each) => each.spec.bridge === bridge);
  if (given === undefined) return freeBridge(input.name, (bridge) => taken(bridge) !== undefined);
  const other = taken(given);
  if (other && (input.mode === 'nat' || other.spec.mode === 'nat'))
    throw invalid(`the bridge ${given} belongs to the network "${other.name}"`);
  return given;
}

/** `vg-` and the beginning of the name; a number where that is taken. */
function freeBridge(name: string, taken: (bridge: string) => boolean): string {
  for (let number = 0; ; number += 1) {
    const end = number === 0 ? '' : String(number);
    const bridge = `vg-${name.slice(0, 12 - end.length)}${end}`;
    if (!taken(bridge)) return bridge;
  }
}

function servers(addresses: readonly string[]): readonly string[] {
  checkWhole('the number of DNS servers', addresses.length, 0, dnsMost);
  for (const text of addresses) if (!parseAddress(text)) throw invalid(`the DNS server "${text}" is not an address`);
  return addresses;
}

function searches(domains: readonly string[]): readonly string[] {
  checkWhole('the number of DNS search domains', domains.length, 0, dnsMost);
  for (const text of domains)
    if (text.length > 253 || !domainName.test(text)) throw invalid(`"${text.slice(0, 80)}" is not a domain name`);
  return domains;
}

/** No two networks give addresses of one subnet; only networks on one bridge may share it, with ranges apart. */
function apart(snapshot: Snapshot, spec: NetworkSpec, id: Uuid | undefined): void {
  for (const other of snapshot.all('network')) {
    if (other.id === id) continue;
    for (const family of ['ipv4', 'ipv6'] as const) {
      const mine = spec[family];
      const theirs = other.spec[family];
      if (!mine || !theirs) continue;
      const [a, b] = [parseSubnet(mine.cidr), parseSubnet(theirs.cidr)];
      if (!a || !b || !overlap(a, b)) continue;
      if (other.spec.bridge === spec.bridge && rangesApart(mine, theirs)) continue;
      throw invalid(`${mine.cidr} overlaps ${theirs.cidr} of the network "${other.name}"`);
    }
  }
}

function rangesApart(a: { from: string; to: string }, b: { from: string; to: string }): boolean {
  const [from, to] = [parseAddress(a.from)?.value ?? 0n, parseAddress(a.to)?.value ?? 0n];
  return to < (parseAddress(b.from)?.value ?? 0n) || from > (parseAddress(b.to)?.value ?? 0n);
}
