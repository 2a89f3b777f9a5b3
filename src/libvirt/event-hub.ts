import type { Connection } from './connection.ts';
import { decodeEvent, EVENTS, type EventBody, type EventName, type EventSource } from './events.ts';
import type { Frame } from './frame.ts';

/** Receives the bodies of one event, one after the other. It must not throw; see `onHandlerError`. */
export type EventHandler<N extends EventName> = (body: EventBody<N>) => void;

interface Topic {
  readonly name: EventName;
  readonly handlers: Set<(body: EventBody<EventName>) => void>;
  /** The connection on which the daemon sends this event, and the daemon's number for that. */
  registered: { readonly connection: Connection; readonly callbackID: number } | undefined;
  /** Registrations and deregistrations of one event happen one after the other. */
  order: Promise<void>;
}

/**
 * Who wants which event, across connections. The daemon is asked once per event, for all domains: handlers tell the
 * domains apart, so an event that overtakes the reply to its own registration is not lost.
 */
export class EventHub {
  readonly #topics = new Map<EventName, Topic>();
  readonly #onHandlerError: (error: unknown, event: EventName) => void;
  #connection: Connection | undefined;

  constructor(onHandlerError: (error: unknown, event: EventName) => void) {
    this.#onHandlerError = onHandlerError;
  }

  /** Adds a handler; resolves when the daemon sends the event, or at once while there is no connection. */
  async add<N extends EventName>(name: N, handler: EventHandler<N>): Promise<() => void> {
    const topic = this.#topic(name);
    // A topic's handlers are only ever called with that topic's bodies.
    const entry = (body: EventBody<EventName>) => handler(body as EventBody<N>);
    topic.handlers.add(entry);
    const remove = () => {
      if (!topic.handlers.delete(entry)) return;
      // A deregistration that fails fails with its connection, and then there is nothing left to deregister.
      this.#settle(topic).catch(() => undefined);
    };
    try {
      await this.#settle(topic);
    } catch (error) {
      remove();
      throw error;
    }
    return remove;
  }

  /** Registers everything that is wanted on a new connection. @throws LibvirtError */
  async attach(connection: Connection): Promise<void> {
    this.#connection = connection;
    await Promise.all([...this.#topics.values()].map((topic) => this.#settle(topic)));
  }

  detach(): void {
    this.#connection = undefined;
  }

  /** Hands a message to its handlers. @throws LibvirtError (protocol) for a malformed one. */
  dispatch(frame: Frame): void {
    const event = decodeEvent(frame);
    if (event === undefined) return;
    for (const handler of this.#topics.get(event.name)?.handlers ?? []) {
      try {
        handler(event.body);
      } catch (error) {
        this.#onHandlerError(error, event.name);
      }
    }
  }

  #topic(name: EventName): Topic {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    const topic: Topic = { name, handlers: new Set(), registered: undefined, order: Promise.resolve() };
    this.#topics.set(name, topic);
    return topic;
  }

  #settle(topic: Topic): Promise<void> {
    const done = topic.order.then(() => this.#reconcile(topic));
    topic.order = done.catch(() => undefined);
    return done;
  }

  async #reconcile(topic: Topic): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    const { source, id } = EVENTS[topic.name];
    const current = topic.registered?.connection === connection ? topic.registered : undefined;
    if (topic.handlers.size > 0 && current === undefined) {
      topic.registered = { connection, callbackID: await register(connection, source, id) };
    } else if (topic.handlers.size === 0 && current !== undefined) {
      topic.registered = undefined;
      await deregister(connection, source, current.callbackID);
    }
  }
}

async function register(connection: Connection, source: EventSource, eventID: number): Promise<number> {
  const call = {
    domain: () => connection.call('connectDomainEventCallbackRegisterAny', { eventID }),
    network: () => connection.call('connectNetworkEventRegisterAny', { eventID }),
    pool: () => connection.call('connectStoragePoolEventRegisterAny', { eventID }),
  }[source];
  return (await call()).callbackID;
}

async function deregister(connection: Connection, source: EventSource, callbackID: number): Promise<void> {
  const call = {
    domain: () => connection.call('connectDomainEventCallbackDeregisterAny', { callbackID }),
    network: () => connection.call('connectNetworkEventDeregisterAny', { callbackID }),
    pool: () => connection.call('connectStoragePoolEventDeregisterAny', { callbackID }),
  }[source];
  await call();
}
