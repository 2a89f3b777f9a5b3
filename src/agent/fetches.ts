import type { Assignment } from '../core/model/assignment.ts';
import type { Instant } from '../core/model/resource.ts';
import { backOffMs } from '../core/host/observe.ts';
import type { AgentPorts } from './ports.ts';

interface Failed {
  readonly count: number;
  readonly retryAt: Instant;
  readonly message: string;
}

/** Images on their way to this host, beside the loop. A failed one is tried again for ever, with back-off. */
export class ImageFetches {
  readonly #ports: Pick<AgentPorts, 'images' | 'clock' | 'log'>;
  readonly #changed: () => void;
  readonly #running = new Map<string, { progress: number; done: Promise<void> }>();
  readonly #failed = new Map<string, Failed>();

  constructor(ports: Pick<AgentPorts, 'images' | 'clock' | 'log'>, changed: () => void) {
    this.#ports = ports;
    this.#changed = changed;
  }

  get running(): readonly string[] {
    return [...this.#running.keys()];
  }

  get retryAt(): Readonly<Record<string, Instant>> {
    return Object.fromEntries([...this.#failed].map(([sha512, { retryAt }]) => [sha512, retryAt]));
  }

  /** 0..1 while it is on its way. */
  progress(sha512: string): number | undefined {
    return this.#running.get(sha512)?.progress;
  }

  problem(sha512: string): string | undefined {
    return this.#failed.get(sha512)?.message;
  }

  begin(sha512: string, assignment: Assignment): void {
    const image = assignment.images.find((each) => each.sha512 === sha512);
    if (!image || this.#running.has(sha512)) return;
    const { images, clock, log } = this.#ports;
    log.info('image fetch', { image: image.name, sha512 });
    const done = images
      .ensure(image, (progress) => {
        const entry = this.#running.get(sha512);
        if (entry) entry.progress = progress;
      })
      .then(
        () => void this.#failed.delete(sha512),
        (error: unknown) => {
          const count = (this.#failed.get(sha512)?.count ?? 0) + 1;
          const message = error instanceof Error ? error.message : String(error);
          this.#failed.set(sha512, { count, retryAt: clock.now() + backOffMs(count + 1), message });
          log.warn('image fetch failed', { image: image.name, detail: message });
        },
      )
      .finally(() => {
        this.#running.delete(sha512);
        this.#changed();
      });
    this.#running.set(sha512, { progress: 0, done });
  }

  async settled(): Promise<void> {
    await Promise.all([...this.#running.values()].map((entry) => entry.done));
  }
}
