/** The daemon's events, described as the procedures are: one table gives decoders, registration and types. */
import type { Frame } from './frame.ts';
import { MAIN_PROGRAM } from './frame.ts';
import { decodeAll, flags, hyper, int, list, optional, str, struct, uhyper, type Codec, type Value } from './schema.ts';
import { dom, net, param, pool } from './types.ts';

/** Which registration call an event takes. */
export type EventSource = 'domain' | 'network' | 'pool';

interface EventType<T> {
  readonly source: EventSource;
  /** Number for the registration call (virDomainEventID and its siblings). */
  readonly id: number;
  /** Procedure number of the message. */
  readonly procedure: number;
  readonly body: Codec<T>;
}

function event<T>(source: EventSource, id: number, procedure: number, body: Codec<T>): EventType<T> {
  return { source, id, procedure, body };
}

const callbackID = int;

export const EVENTS = {
  lifecycle: event('domain', 0, 318, struct({ callbackID, dom, event: int, detail: int })),
  reboot: event('domain', 1, 319, struct({ callbackID, dom })),
  rtcChange: event('domain', 2, 320, struct({ callbackID, dom, offset: hyper })),
  watchdog: event('domain', 3, 321, struct({ callbackID, dom, action: int })),
  ioErrorReason: event(
    'domain',
    6,
    324,
    struct({ callbackID, dom, srcPath: str, devAlias: str, action: int, reason: str }),
  ),
  blockJob: event('domain', 8, 326, struct({ callbackID, dom, path: str, type: int, status: int })),
  balloonChange: event('domain', 13, 331, struct({ callbackID, dom, actual: uhyper })),
  deviceRemoved: event('domain', 15, 333, struct({ callbackID, dom, devAlias: str })),
  blockJob2: event('domain', 16, 339, struct({ callbackID, dom, dst: str, type: int, status: int })),
  tunable: event('domain', 17, 346, struct({ callbackID, dom, params: list(param) })),
  agentLifecycle: event('domain', 18, 348, struct({ callbackID, dom, state: int, reason: int })),
  deviceAdded: event('domain', 19, 354, struct({ callbackID, dom, devAlias: str })),
  migrationIteration: event('domain', 20, 359, struct({ callbackID, dom, iteration: int })),
  jobCompleted: event('domain', 21, 363, struct({ callbackID, dom, params: list(param) })),
  metadataChange: event('domain', 23, 379, struct({ callbackID, dom, type: int, nsuri: optional(str) })),
  blockThreshold: event(
    'domain',
    24,
    385,
    struct({ callbackID, dom, dev: str, path: optional(str), threshold: uhyper, excess: uhyper }),
  ),
  memoryFailure: event('domain', 25, 423, struct({ callbackID, dom, recipient: int, action: int, flags })),
  networkLifecycle: event('network', 0, 315, struct({ callbackID, net, event: int, detail: int })),
  poolLifecycle: event('pool', 0, 370, struct({ callbackID, pool, event: int, detail: int })),
  poolRefresh: event('pool', 1, 373, struct({ callbackID, pool })),
} as const;

/** Name of an event, such as `lifecycle`. */
export type EventName = keyof typeof EVENTS;
/** What an event carries. */
export type EventBody<N extends EventName> = (typeof EVENTS)[N] extends { readonly body: infer C } ? Value<C> : never;

const BY_PROCEDURE = new Map<number, EventName>(
  Object.entries(EVENTS).map(([name, { procedure }]) => [procedure, name as EventName]),
);

/**
 * The event in a message; `undefined` for messages that this client does not know (a newer daemon's).
 * @throws LibvirtError (protocol) where the body is not what the event carries.
 */
export function decodeEvent(frame: Frame): { name: EventName; body: EventBody<EventName> } | undefined {
  const name = frame.program === MAIN_PROGRAM ? BY_PROCEDURE.get(frame.procedure) : undefined;
  if (name === undefined) return undefined;
  const codec: Codec<EventBody<EventName>> = EVENTS[name].body;
  return { name, body: decodeAll(frame.body, codec) };
}
