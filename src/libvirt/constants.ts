/** Numbers of libvirt's API that callers need, under names of their own. */

/** virDomainState, by position. */
export const DOMAIN_STATES = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutdown',
  'shutoff',
  'crashed',
  'pmsuspended',
] as const;
export type DomainState = (typeof DOMAIN_STATES)[number];

/** virDomainEventType (`event` of the event `lifecycle`), by position. */
export const LIFECYCLE_EVENTS = [
  'defined',
  'undefined',
  'started',
  'suspended',
  'resumed',
  'stopped',
  'shutdown',
  'pmsuspended',
  'crashed',
] as const;
export type LifecycleEvent = (typeof LIFECYCLE_EVENTS)[number];

/** virStoragePoolEventLifecycleType (`event` of the event `poolLifecycle`), by position. */
export const POOL_EVENTS = ['defined', 'undefined', 'started', 'stopped', 'created', 'deleted'] as const;
export type PoolEvent = (typeof POOL_EVENTS)[number];

/** Groups of bulk statistics (virDomainStatsTypes); 0 asks for all that the driver has. */
export const STATS = {
  state: 1,
  cpu: 2,
  balloon: 4,
  vcpu: 8,
  interface: 16,
  block: 32,
  perf: 64,
  iothread: 128,
  memory: 256,
  dirtyRate: 512,
  vm: 1024,
} as const;
/** Leaves out what a busy domain would have to be waited for (VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT). */
export const STATS_NOWAIT = 1 << 29;

/** Which domains a list holds (virConnectListAllDomainsFlags); 0 is all. */
export const LIST = {
  active: 1,
  inactive: 2,
  persistent: 4,
  transient: 8,
  running: 16,
  paused: 32,
  shutoff: 64,
} as const;

/** What a change applies to (virDomainModificationImpact). */
export const AFFECT = { current: 0, live: 1, config: 2 } as const;

/** virDomainCreateFlags. */
export const CREATE = { paused: 1, autodestroy: 2 } as const;
/** virDomainDestroyFlags. */
export const DESTROY = { graceful: 1 } as const;
/** virDomainUndefineFlags. */
export const UNDEFINE = {
  managedSave: 1,
  snapshotsMetadata: 2,
  nvram: 4,
  keepNvram: 8,
  checkpointsMetadata: 16,
} as const;
/** virDomainXMLFlags. */
export const XML = { secure: 1, inactive: 2, migratable: 8 } as const;
/** virDomainShutdownFlagValues and virDomainRebootFlagValues. */
export const SHUTDOWN = { default: 0, acpi: 1, guestAgent: 2 } as const;
/** virDomainInterfaceAddressesSource. */
export const ADDRESS_SOURCE = { lease: 0, agent: 1, arp: 2 } as const;
/** virDomainMetadataType. */
export const METADATA = { description: 0, title: 1, element: 2 } as const;
/** virDomainSnapshotCreateFlags. */
export const SNAPSHOT_CREATE = {
  redefine: 1,
  current: 2,
  noMetadata: 4,
  halt: 8,
  diskOnly: 16,
  quiesce: 64,
  atomic: 128,
  live: 256,
} as const;
/** virDomainSnapshotRevertFlags. */
export const SNAPSHOT_REVERT = { running: 1, paused: 2, force: 4 } as const;
/** virDomainSnapshotDeleteFlags. */
export const SNAPSHOT_DELETE = { children: 1, metadataOnly: 2, childrenOnly: 4 } as const;
/** virDomainConsoleFlags. */
export const CONSOLE = { force: 1, safe: 2 } as const;
/** virDomainBlockResizeFlags: the size is in bytes, not KiB. */
export const BLOCK_RESIZE = { bytes: 1 } as const;

/** The name at a position of one of the lists above; a number newer than the list gives `undefined`. */
export function nameOf<T extends string>(names: readonly T[], number: number): T | undefined {
  return names[number];
}
