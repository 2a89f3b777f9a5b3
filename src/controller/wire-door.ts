/** Stands where the wire will be: a new site has no certificates before it has led once. Until then nothing is sent. */
import type { HaMessage } from '../core/ha/types.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { OpenWire, PeerSight, Sender, WireIdentity } from '../effects/wire/index.ts';
import type { Wire } from '../ports.ts';

export class WireDoor implements Wire {
  readonly #listeners = new Set<(from: Sender, message: HaMessage) => void>();
  #wire: OpenWire | undefined;

  get opened(): boolean {
    return this.#wire !== undefined;
  }

  open(wire: OpenWire): void {
    this.#wire = wire;
    wire.onMessage((from, message) => {
      for (const listener of this.#listeners) listener(from, message);
    });
  }

  send(to: Uuid, message: HaMessage, addresses?: readonly string[]): void {
    this.#wire?.send(to, message, addresses);
  }

  /** Called at once for each message. Returns the way to stop it. */
  onMessage(listener: (from: Sender, message: HaMessage) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What is known of the ways to a peer. */
  sight(id: Uuid): PeerSight | undefined {
    return this.#wire?.sight(id);
  }

  /** Goes on with a renewed certificate. */
  use(identity: WireIdentity): void {
    this.#wire?.use(identity);
  }

  async close(): Promise<void> {
    await this.#wire?.close();
  }
}
