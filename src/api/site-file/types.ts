/** A site file as read: sizes in MiB, durations in seconds, times in milliseconds. */
import type { GuestView, HostView, ImageView, NetworkView, SiteSettingsView } from '../schemas.ts';

export type Labels = Readonly<Record<string, string>>;
export interface Amounts {
  readonly cpus?: number;
  readonly memory?: number;
  readonly disk?: number;
}
export interface SettingsEntry {
  readonly lease?: {
    readonly profile?: 'default' | 'fast';
    readonly length?: number;
    readonly bound?: number;
    readonly drift?: number;
  };
  readonly onHostLeave?: 'stop' | 'migrate' | 'wait';
  readonly lapseGrace?: number;
}
export interface FenceEntry {
  readonly agent: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly delay?: number;
}
export interface HostEntry {
  readonly labels?: Labels;
  readonly cordoned?: boolean;
  readonly cordonReason?: string;
  readonly reserved?: Amounts;
  readonly overcommit?: { readonly cpu?: number; readonly memory?: number };
  readonly capacity?: Amounts;
  readonly fence?: readonly FenceEntry[];
}
export interface RangeEntry {
  readonly cidr: string;
  readonly from?: string;
  readonly to?: string;
  readonly gateway?: string;
}
export interface NetworkEntry {
  readonly mode: 'bridge' | 'nat';
  readonly bridge?: string;
  readonly ipv4?: RangeEntry;
  readonly ipv6?: RangeEntry;
  readonly mtu?: number;
  readonly dns?: { readonly servers?: readonly string[]; readonly search?: readonly string[] };
  readonly labels?: Labels;
}
export interface ImageEntry {
  readonly file?: string;
  readonly url?: string;
  readonly format: 'raw' | 'qcow2';
  readonly sha512?: string;
  readonly description?: string;
  readonly labels?: Labels;
}
export interface GuestEntry {
  readonly image: string;
  readonly count?: number;
  readonly cpus?: number;
  readonly maxCpus?: number;
  readonly memory?: number;
  readonly maxMemory?: number;
  readonly disk?: number;
  readonly diskMode?: 'keep' | 'fresh';
  readonly networks?: readonly string[];
  readonly addresses?: Readonly<Record<string, string>>;
  readonly labels?: Labels;
  readonly userData?: string;
  readonly sshKeys?: readonly string[];
  readonly restart?: 'always' | 'on-failure' | 'never';
  readonly host?: string;
  readonly ha?: 'on' | 'off';
  readonly priority?: number;
  readonly prefer?: readonly string[];
  readonly failBack?: boolean;
  readonly limits?: { readonly restarts?: number; readonly moves?: number; readonly window?: number };
  readonly grace?: number;
  readonly firmware?: 'bios' | 'uefi';
  readonly machineType?: string;
  readonly cpuModel?: string;
}

export interface SiteFile {
  readonly site: string;
  readonly settings?: SettingsEntry;
  readonly hosts: Readonly<Record<string, HostEntry>>;
  readonly networks: Readonly<Record<string, NetworkEntry>>;
  readonly images: Readonly<Record<string, ImageEntry>>;
  readonly guests: Readonly<Record<string, GuestEntry>>;
  /** Name of the file, for messages. */
  readonly file: string;
  /** Line of each key by its dotted path, e.g. `guests.web.image`. */
  readonly lines: ReadonlyMap<string, number>;
}

/** The site as it is now. */
export interface SiteState {
  /** Absent: not asked for, since the file says nothing of them. */
  readonly settings?: SiteSettingsView;
  readonly hosts: readonly HostView[];
  readonly networks: readonly NetworkView[];
  readonly images: readonly ImageView[];
  readonly guests: readonly GuestView[];
}
