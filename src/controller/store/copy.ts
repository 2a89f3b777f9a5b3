/**
 * PostgreSQL's COPY, streamed with back-pressure. The driver hands COPY messages to the query that is active, so each
 * direction is such a query.
 * Source: PostgreSQL manual, "Frontend/Backend Protocol", "COPY Operations".
 */
import type { PoolClient, Submittable } from 'pg';

/** What the driver's connection offers for COPY. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Uint8Array): void;
  endCopyFrom(): void;
  sendCopyFail(message: string): void;
  readonly stream: {
    pause(): void;
    resume(): void;
    once(event: 'drain' | 'close', listener: () => void): void;
    removeListener(event: 'drain' | 'close', listener: () => void): void;
    destroy(): void;
    readonly writableNeedDrain: boolean;
    readonly destroyed: boolean;
  };
}

/** The part of a query that the driver calls. */
class CopyQuery implements Submittable {
  readonly #text: string;
  readonly #settle: (error?: Error) => void;
  readonly done: Promise<void>;
  /** Milliseconds; read by the driver instead of the limit for short statements. */
  readonly query_timeout = 3_600_000;
  /** Set by the driver, which waits for it to end its timer. */
  callback: ((error?: Error) => void) | undefined;
  protected connection: CopyConnection | undefined;

  constructor(text: string) {
    this.#text = text;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.done = promise;
    this.done.catch(() => undefined);
    this.#settle = (error) => {
      this.callback?.(error);
      if (error) reject(error);
      else resolve();
    };
  }

  submit(connection: unknown): void {
    this.connection = connection as CopyConnection;
    this.connection.query(this.#text);
  }

  handleError(error: Error): void {
    this.failed(error);
    this.#settle(error);
  }

  handleReadyForQuery(): void {
    this.#settle();
  }

  handleCommandComplete(): void {}
  handleRowDescription(): void {}
  handleDataRow(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}

  protected failed(_error: Error): void {}
}

class CopyOut extends CopyQuery {
  #chunks: Uint8Array[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #failure: Error | undefined;

  handleCopyData(message: { readonly chunk: Uint8Array }): void {
    // The driver's buffer is reused for the next message.
    this.#chunks.push(Uint8Array.from(message.chunk));
    if (this.#chunks.length >= highWater) this.connection?.stream.pause();
    this.#wake?.();
  }

  override handleCommandComplete(): void {
    this.#ended = true;
    this.#wake?.();
  }

  protected override failed(error: Error): void {
    this.#failure = error;
    this.#wake?.();
  }

  /** A reader that stops early leaves a connection in the middle of a stream: it is of no use any more. */
  abandon(): void {
    if (!this.#ended && !this.#failure) this.connection?.stream.destroy();
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const ready = this.#chunks;
      this.#chunks = [];
      if (ready.length > 0) yield Buffer.concat(ready);
      else if (this.#failure) throw this.#failure;
      else if (this.#ended) return;
      else {
        this.connection?.stream.resume();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (this.#chunks.length > 0 || this.#ended || this.#failure) resolve();
        });
      }
    }
  }
}

/** Rows that may wait in memory before the server is asked to pause. */
const highWater = 2000;

/** Streams what `COPY … TO STDOUT` sends. Stopping before its end closes the connection. */
export async function* copyOut(client: PoolClient, statement: string): AsyncGenerator<Uint8Array> {
  const query = client.query(new CopyOut(statement));
  try {
    yield* query.chunks();
    await query.done;
  } finally {
    query.abandon();
  }
}

class CopyIn extends CopyQuery {
  readonly #source: AsyncIterable<Uint8Array>;
  #stopped = false;
  sourceError: unknown;

  constructor(statement: string, source: AsyncIterable<Uint8Array>) {
    super(statement);
    this.#source = source;
  }

  handleCopyInResponse(connection: CopyConnection): void {
    void this.#send(connection);
  }

  /** A failure of the source goes to the server, which answers with an error: that ends the query. */
  async #send(connection: CopyConnection): Promise<void> {
    try {
      for await (const chunk of this.#source) {
        if (this.#stopped) return;
        connection.sendCopyFromChunk(chunk);
        await drained(connection.stream);
      }
      connection.endCopyFrom();
    } catch (error) {
      this.sourceError = error;
      if (connection.stream.destroyed) return;
      connection.sendCopyFail('the source failed');
    }
  }

  protected override failed(): void {
    this.#stopped = true;
  }
}

async function drained(stream: CopyConnection['stream']): Promise<void> {
  if (stream.destroyed) throw new Error('connection closed during COPY');
  if (!stream.writableNeedDrain) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      stream.removeListener('drain', done);
      stream.removeListener('close', done);
      resolve();
    };
    stream.once('drain', done);
    stream.once('close', done);
  });
}

/** Sends all of `source` to `COPY … FROM STDIN`. An error of the source comes out as it is. */
export async function copyIn(client: PoolClient, statement: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const query = client.query(new CopyIn(statement, source));
  try {
    await query.done;
  } catch (error) {
    throw query.sourceError ?? error;
  }
}
