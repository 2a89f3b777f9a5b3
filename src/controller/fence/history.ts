/** What fence devices did, per host, on disk: a new leader on this machine and a person who asks later want to know. */
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { Files, Log } from '../../ports.ts';
import type { FenceAttempt } from './door.ts';

export const keptAttempts = 16;
/** Hosts whose history is kept; those that were fenced longest ago go first. */
const keptHosts = 512;
const path = 'history.json';

export class FenceHistory {
  readonly #files: Files;
  readonly #log: Log;
  readonly #hosts = new Map<Uuid, readonly FenceAttempt[]>();
  #writing: Promise<void> = Promise.resolve();

  constructor(files: Files, log: Log) {
    this.#files = files;
    this.#log = log;
  }

  /** Reads what is on disk; what cannot be read is left behind, with a line in the log. */
  async load(): Promise<void> {
    try {
      const text = await this.#files.read(path);
      if (text === undefined) return;
      const read = JSON.parse(text) as Readonly<Record<Uuid, readonly FenceAttempt[]>>;
      for (const [hostId, attempts] of Object.entries(read)) this.#hosts.set(hostId, attempts.slice(-keptAttempts));
    } catch (error) {
      this.#log.warn('the history of fencing could not be read; a new one begins', { detail: String(error) });
    }
  }

  of(hostId: Uuid): readonly FenceAttempt[] {
    return this.#hosts.get(hostId) ?? [];
  }

  /** In memory at once; on disk soon after. A disk that refuses stops no fencing. */
  note(hostId: Uuid, attempt: FenceAttempt): void {
    const attempts = [...this.of(hostId), attempt].slice(-keptAttempts);
    this.#hosts.set(hostId, attempts);
    while (this.#hosts.size > keptHosts) this.#hosts.delete(this.#oldest());
    this.#writing = this.#writing.then(async () => this.#write());
  }

  /** Resolves when everything is on disk. */
  async written(): Promise<void> {
    await this.#writing;
  }

  #oldest(): Uuid {
    const lastAt = ([, attempts]: [Uuid, readonly FenceAttempt[]]): Instant => attempts.at(-1)?.at ?? 0;
    return [...this.#hosts].sort((a, b) => lastAt(a) - lastAt(b))[0]?.[0] ?? '';
  }

  async #write(): Promise<void> {
    try {
      await this.#files.write(path, JSON.stringify(Object.fromEntries(this.#hosts)));
    } catch (error) {
      this.#log.warn('the history of fencing could not be written', { detail: String(error) });
    }
  }
}
