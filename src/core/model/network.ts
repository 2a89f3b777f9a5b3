import type { Resource } from './resource.ts';

/** `bridge`: an existing bridge of the host, whatever lies under it · `nat`: a bridge and NAT that Virga makes on each host. */
export type NetworkMode = 'bridge' | 'nat';

export interface AddressRange {
  /** The subnet, e.g. `10.77.0.0/24` or `fd77::/64`. */
  readonly cidr: string;
  /** First and last address that Virga may give. */
  readonly from: string;
  readonly to: string;
  /** Default route of the guests; absent: none. */
  readonly gateway?: string;
}

export interface NetworkSpec {
  readonly mode: NetworkMode;
  /** `bridge`: name of the bridge on every host. `nat`: name of the bridge that Virga makes (chosen if absent). */
  readonly bridge: string;
  readonly ipv4?: AddressRange;
  readonly ipv6?: AddressRange;
  /** Bytes; absent: the bridge's own. */
  readonly mtu?: number;
  readonly dns: { readonly servers: readonly string[]; readonly search: readonly string[] };
}

export interface NetworkStatus {
  /** Hosts that reported they lack it, with the reason. */
  readonly problems: readonly { readonly host: string; readonly message: string }[];
}

export type Network = Resource<'network', NetworkSpec, NetworkStatus>;
