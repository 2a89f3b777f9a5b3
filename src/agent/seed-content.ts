/**
 * The three files of a NoCloud seed (cloud-init, datasource NoCloud). Written as JSON, which is YAML without its traps:
 * an address such as `10:20:30` is no number to base 60, a name such as `no` is no boolean.
 */
import type { AssignedNetwork, GuestOrder } from '../core/model/assignment.ts';

export interface SeedContent {
  readonly 'meta-data': string;
  readonly 'user-data': string;
  readonly 'network-config': string;
}

type SeedOrder = Pick<GuestOrder, 'id' | 'name' | 'nics' | 'sshKeys' | 'userData'>;

/** @param instanceId what cloud-init sees as a new machine when it changes */
export function seedContent(order: SeedOrder, networks: readonly AssignedNetwork[], instanceId: string): SeedContent {
  return {
    'meta-data': json({ 'instance-id': instanceId, 'local-hostname': order.name }),
    'user-data': userData(order),
    'network-config': json(networkConfig(order, networks)),
  };
}

const json = (value: unknown): string => `${JSON.stringify(value, undefined, 1)}\n`;

/** The given text as it is; else host name and keys, for the image's default user. */
function userData({ name, sshKeys, userData: given }: SeedOrder): string {
  if (given !== undefined) return given;
  const keys = sshKeys.length > 0 ? { ssh_authorized_keys: sshKeys } : {};
  return `#cloud-config\n${json({ hostname: name, preserve_hostname: false, ...keys })}`;
}

/** Network configuration, version 2, interfaces matched by MAC. */
function networkConfig({ nics }: SeedOrder, networks: readonly AssignedNetwork[]): object {
  const known = new Map(networks.map((network) => [network.id, network]));
  const ethernets: Record<string, object> = {};
  nics.forEach((nic, index) => {
    const network = known.get(nic.networkId);
    if (network) ethernets[`nic${index}`] = ethernet(nic, network);
  });
  return { version: 2, ethernets };
}

function ethernet(nic: GuestOrder['nics'][number], network: AssignedNetwork): object {
  const { ipv4, ipv6 } = network;
  const addresses = [withPrefix(nic.ipv4, ipv4?.cidr), withPrefix(nic.ipv6, ipv6?.cidr)].filter(
    (each) => each !== undefined,
  );
  const via4 = nic.ipv4 === undefined ? undefined : ipv4?.gateway;
  const via6 = nic.ipv6 === undefined ? undefined : ipv6?.gateway;
  const routes = [
    ...(via4 === undefined ? [] : [{ to: '0.0.0.0/0', via: via4 }]),
    ...(via6 === undefined ? [] : [{ to: '::/0', via: via6 }]),
  ];
  const { servers, search } = network.dns;
  const nameservers = {
    ...(servers.length > 0 ? { addresses: servers } : {}),
    ...(search.length > 0 ? { search } : {}),
  };
  return {
    match: { macaddress: nic.mac.toLowerCase() },
    // A network without address ranges has its own ways of giving addresses.
    ...(addresses.length > 0 ? { dhcp4: false, dhcp6: false, addresses } : { dhcp4: true }),
    ...(routes.length > 0 ? { routes } : {}),
    ...(Object.keys(nameservers).length > 0 ? { nameservers } : {}),
    ...(network.mtu === undefined ? {} : { mtu: network.mtu }),
  };
}

function withPrefix(address: string | undefined, cidr: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  const length = cidr?.split('/')[1] ?? (address.includes(':') ? '64' : '24');
  return `${address}/${length}`;
}
