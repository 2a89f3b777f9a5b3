/** The vocabulary of the agent's decisions. Each action says why it is done; the agent writes that to its log. */
import type { Instant, Uuid } from '../model/resource.ts';

export type StopReason = 'stop' | 'reboot' | 'rebuild' | 'revert' | 'remove';

/** One step for one guest. Steps of one guest follow one another; those of different guests run side by side. */
export type GuestStep =
  /** Create the domain; `freshDisk`: on a new overlay of the image; `again`: it is a restart after a failure. */
  | { readonly do: 'start'; readonly freshDisk: boolean; readonly again: boolean }
  /** Let a domain run that was made, paused, for the lease's session and never ran. */
  | { readonly do: 'admit' }
  /** End a domain that was made and never ran. */
  | { readonly do: 'discard' }
  /** Bring a running guest into the session's group: it became highly available. */
  | { readonly do: 'enter' }
  /** The keeper will never register this order: end what was made under it and say that it is gone. */
  | { readonly do: 'lose'; readonly detail: string }
  | { readonly do: 'adopt' }
  | { readonly do: 'shutdown'; readonly why: StopReason }
  /** `clear`: through the keeper, which kills the guest's group and forgets its entry; libvirt takes long for a frozen one. */
  | { readonly do: 'destroy'; readonly why: StopReason; readonly clear: boolean }
  | { readonly do: 'pause' }
  | { readonly do: 'resume' }
  | { readonly do: 'rebuild' }
  | { readonly do: 'revert'; readonly seq: number; readonly snapshotId: Uuid }
  | { readonly do: 'snapshot'; readonly snapshotId: Uuid; readonly running: boolean }
  /** An earlier snapshot of the running guest was cut short: find out what became of it. */
  | { readonly do: 'settle-snapshot'; readonly running: boolean }
  | { readonly do: 'drop-snapshot'; readonly snapshotId: Uuid }
  | { readonly do: 'set-cpus'; readonly cpus: number }
  | { readonly do: 'set-memory'; readonly memoryMiB: number }
  | { readonly do: 'grow-disk'; readonly diskMiB: number; readonly running: boolean }
  /** `clear`: the keeper ends and forgets it first (host-lease, rule 9). */
  | { readonly do: 'remove'; readonly clear: boolean }
  | { readonly do: 'release' }
  /** Nothing is left to do under this order: remember that. */
  | { readonly do: 'settle'; readonly generation: number };

export type HostAction =
  | (GuestStep & { readonly guestId: Uuid; readonly reason: string })
  /** Bring an image into the cache, in the background. */
  | { readonly do: 'fetch'; readonly sha512: string; readonly reason: string }
  /** Forget a guest that is gone and that no assignment lists any more. */
  | { readonly do: 'forget'; readonly guestId: Uuid; readonly reason: string }
  /** Nothing can be done before `until` (absent: before something else changes). */
  | { readonly do: 'wait'; readonly guestId: Uuid; readonly until?: Instant; readonly reason: string };
