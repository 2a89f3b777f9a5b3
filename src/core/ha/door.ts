/**
 * What is said at the keeper's door on its own host, as JSON lines: the agent asks, the keeper answers under the number
 * of the question, and tells by itself when session or lease changed.
 */
import type { LeaseReport } from '../model/assignment.ts';
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';

/** A start that is to be registered (host-lease, rule 9). */
export interface DoorTicket {
  readonly guestId: Uuid;
  readonly generation: number;
  /** Of the leader who gave the order. */
  readonly epoch: number;
  readonly session: HostSession;
}

export type DoorRegistered =
  | { readonly ok: true; /** Path of its group. */ readonly group: string }
  | {
      readonly ok: false;
      /** `lapsed` may be asked again; the others are final for this generation. */
      readonly why: 'epoch' | 'session' | 'barred' | 'generation' | 'lapsed';
      readonly detail: string;
    };

export interface DoorView {
  readonly session: HostSession;
  readonly lease: LeaseReport;
  /** Guests registered in this session. */
  readonly entries: readonly { readonly guestId: Uuid; readonly generation: number; readonly epoch: number }[];
  /** Guests and the highest generation of each that is gone for ever. */
  readonly gone: readonly { readonly guestId: Uuid; readonly generation: number }[];
}

export type DoorQuestion =
  | { readonly ask: 'state' }
  | { readonly ask: 'register'; readonly ticket: DoorTicket }
  | { readonly ask: 'enter'; readonly guestId: Uuid; readonly pid: number }
  | { readonly ask: 'clear'; readonly guestId: Uuid }
  /** The machine goes down as planned: what runs in the session is killed, and the beats say that it is over. */
  | { readonly ask: 'leave'; readonly reason: string };

export type DoorValue<Q extends DoorQuestion> = Q extends { ask: 'state' }
  ? DoorView
  : Q extends { ask: 'register' }
    ? DoorRegistered
    : null;

export type ToDoor = DoorQuestion & { readonly id: number };
export type FromDoor =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string }
  | { readonly changed: true };

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const count = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isId = (value: unknown): boolean => typeof value === 'string' && uuid.test(value);
const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};

function isTicket(value: unknown): boolean {
  const { guestId, generation, epoch, session } = record(value);
  const { number, id } = record(session);
  return isId(guestId) && count(generation) && count(epoch) && count(number) && isId(id);
}

/** A question, when it is one; undefined for everything else. */
export function readQuestion(value: unknown): ToDoor | undefined {
  const { id, ask, ticket, guestId, pid, reason } = record(value);
  if (!count(id)) return undefined;
  const fits =
    ask === 'state' ||
    (ask === 'register' && isTicket(ticket)) ||
    (ask === 'enter' && isId(guestId) && count(pid)) ||
    (ask === 'clear' && isId(guestId)) ||
    (ask === 'leave' && typeof reason === 'string' && reason.length <= 500);
  return fits ? (value as ToDoor) : undefined;
}
