/**
 * What a person can ask for, as plain data: the bodies of the API, the flags of the CLI and the objects of a site file
 * all become one of these. The schemas in `src/api` mirror them field by field (a type test holds the two together).
 */
import type { DiskMode, RestartPolicy } from '../model/guest.ts';
import type { ImageFormat } from '../model/image.ts';
import type { AddressRange, NetworkMode } from '../model/network.ts';
import type { Role } from '../model/access.ts';

/** `undefined` fields take the defaults documented in the API reference. */
export interface RunGuestInput extends RecoveryInput {
  /** Name, or stem of the names with `count`. Absent: the image's name and the lowest free number. */
  name?: string | undefined;
  image: string;
  /** 1 to 1,024. With `count` the guests are NAME-1 … NAME-N. */
  count?: number | undefined;
  /** Take what fits; otherwise all or nothing. */
  partial?: boolean | undefined;
  cpus?: number | undefined;
  maxCpus?: number | undefined;
  memoryMiB?: number | undefined;
  maxMemoryMiB?: number | undefined;
  /** At least the image's virtual size; absent: that size. */
  diskMiB?: number | undefined;
  diskMode?: DiskMode | undefined;
  /** Names or ids; absent: the network named `default` if there is one, else the only one, else none. */
  networks?: readonly string[] | undefined;
  /** Fixed addresses by network name; only with `count` 1. */
  addresses?: Readonly<Record<string, string>> | undefined;
  labels?: Readonly<Record<string, string>> | undefined;
  userData?: string | undefined;
  sshKeys?: readonly string[] | undefined;
  restart?: RestartPolicy | undefined;
  /** Only on this host. */
  host?: string | undefined;
  graceSeconds?: number | undefined;
  firmware?: 'bios' | 'uefi' | undefined;
  machineType?: string | undefined;
  cpuModel?: string | undefined;
  origin?: string | undefined;
}

/** What a person may say of recovery, on creation and later. */
export interface RecoveryInput {
  /** `on`: where its disk allows it, which is usual. */
  ha?: 'on' | 'off' | undefined;
  /** 0 to 100; 50 is usual. */
  priority?: number | undefined;
  /** Names or ids, best first; an empty list takes the preference away. At most 16. */
  preferredHosts?: readonly string[] | undefined;
  failBack?: boolean | undefined;
  /** What is left out takes the usual value; an empty object takes all limits back to the usual ones. */
  limits?:
    | { restarts?: number | undefined; moves?: number | undefined; windowSeconds?: number | undefined }
    | undefined;
}

export interface ResizeInput {
  cpus?: number | undefined;
  memoryMiB?: number | undefined;
  maxCpus?: number | undefined;
  maxMemoryMiB?: number | undefined;
  /** Grows only. */
  diskMiB?: number | undefined;
}

export interface NetworkInput {
  name: string;
  mode: NetworkMode;
  /** Required for `bridge`. */
  bridge?: string | undefined;
  ipv4?: AddressRangeInput | undefined;
  ipv6?: AddressRangeInput | undefined;
  mtu?: number | undefined;
  dns?: { servers?: readonly string[] | undefined; search?: readonly string[] | undefined } | undefined;
  labels?: Readonly<Record<string, string>> | undefined;
  origin?: string | undefined;
}
/** `from`, `to` absent: the whole subnet but network, broadcast and gateway. */
export type AddressRangeInput = Pick<AddressRange, 'cidr'> & {
  from?: string | undefined;
  to?: string | undefined;
  gateway?: string | undefined;
};

export interface ImageInput {
  name: string;
  format: ImageFormat;
  sizeBytes: number;
  /** Hex; checked against what arrives. */
  sha512?: string | undefined;
  description?: string | undefined;
  labels?: Readonly<Record<string, string>> | undefined;
  origin?: string | undefined;
}

export interface HostChange {
  /** In the order in which they are tried; all that there are. */
  fence?: readonly FenceDeviceInput[] | undefined;
  cordoned?: boolean | undefined;
  cordonReason?: string | undefined;
  reserved?: { cpus?: number | undefined; memoryMiB?: number | undefined; diskMiB?: number | undefined } | undefined;
  overcommit?: { cpu?: number | undefined; memory?: number | undefined } | undefined;
  /** `null` takes an override away. */
  capacity?:
    | { cpus?: number | null | undefined; memoryMiB?: number | null | undefined; diskMiB?: number | null | undefined }
    | undefined;
  /** `null` removes a label. */
  labels?: Readonly<Record<string, string | null>> | undefined;
}

/** Changes that need no action of their own. */
export interface GuestChange extends RecoveryInput {
  labels?: Readonly<Record<string, string | null>> | undefined;
  restart?: RestartPolicy | undefined;
  graceSeconds?: number | undefined;
  name?: string | undefined;
}

export interface TokenInput {
  name: string;
  role?: Role | undefined;
  /** Seconds; default 90 days, at most 366. */
  validSeconds?: number | undefined;
}

export interface InviteInput {
  /** A witness votes on leases and carries no guests. */
  role?: 'host' | 'witness' | undefined;
  hostName?: string | undefined;
  /** Seconds; default one hour. */
  validSeconds?: number | undefined;
}

export interface FenceDeviceInput {
  /** `fence_*` */
  agent: string;
  parameters: Readonly<Record<string, string>>;
  delayMs?: number | undefined;
}

export interface SiteChange {
  /** A profile by its name, or figures of its own over those of the present one. */
  lease?:
    | 'default'
    | 'fast'
    | { lengthMs?: number | undefined; boundMs?: number | undefined; drift?: number | undefined }
    | undefined;
  onHostLeave?: 'stop' | 'migrate' | 'wait' | undefined;
  /** 0: at once. */
  lapseGraceSeconds?: number | undefined;
}

export interface DeclareDeadInput {
  /** The host's name, typed again. */
  confirm?: string | undefined;
  reason?: string | undefined;
}

export interface AdoptInput {
  host: string;
  /** UUID or name of the foreign domain. */
  domain: string;
  name?: string | undefined;
}

export interface ListQuery {
  /** 1 to 20,000; default 1,000. */
  limit?: number | undefined;
  /** Opaque; from the page before. */
  cursor?: string | undefined;
  /** `key=value`, `key` (has it), `key!=value`; several are joined by commas and must all hold. */
  label?: string | undefined;
  state?: string | undefined;
  host?: string | undefined;
  image?: string | undefined;
  network?: string | undefined;
  /** Names that begin so. */
  name?: string | undefined;
}
