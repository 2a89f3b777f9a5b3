/** Questions before something is lost. On a terminal a person answers; a script says --yes. */
import { createInterface } from 'node:readline/promises';
import type { Call } from './call.ts';
import { exitCodes, Failure, plain } from './failure.ts';
import { Interrupted, type Io } from './io.ts';

/** Asks for one line on the terminal. */
export async function askLine(io: Io, question: string): Promise<string> {
  const lines = createInterface({ input: io.stdin, output: io.stderr, terminal: io.stderr.isTTY === true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once('SIGINT', () => reject(new Interrupted()));
      lines.once('close', () => resolve(''));
      lines.question(plain(question), { signal: io.interrupted }).then(resolve, () => reject(new Interrupted()));
    });
  } finally {
    lines.close();
  }
}

export const canAsk = (io: Io): boolean => io.stdin.isTTY === true && io.stderr.isTTY === true;

/**
 * Throws unless the person agrees (exit code 5).
 * @param what - what will happen, as a sentence without its full stop.
 * @param word - what must be typed; the name itself where a mistake cannot be undone.
 */
export async function confirm(call: Pick<Call, 'io' | 'options'>, what: string, word = 'yes'): Promise<void> {
  if (word === 'yes' && call.options.yes === true) return;
  const how = word === 'yes' ? '--yes' : `--confirm ${word}`;
  if (!canAsk(call.io)) throw new Failure(exitCodes.declined, 'confirmation_required', { what, how });
  const answer = await askLine(call.io, `${what}.\nType ${word} to go on: `);
  if (answer.trim() !== word)
    throw new Failure(exitCodes.declined, 'cancelled', { detail: `you did not type ${word}` });
}

/** A secret: from a file (`-` is standard input), or typed without echo. */
export async function askSecret(io: Io, question: string): Promise<string> {
  const { stdin, stderr } = io;
  stderr.write(question);
  stdin.setRawMode?.(true);
  try {
    return await readHidden(io);
  } finally {
    stdin.setRawMode?.(false);
    stdin.pause();
    stderr.write('\n');
  }
}

async function readHidden(io: Io): Promise<string> {
  let typed = '';
  for await (const chunk of io.stdin as AsyncIterable<Uint8Array | string>) {
    for (const character of chunk.toString()) {
      if (character === '\r' || character === '\n') return typed;
      if (character === '\u0003') throw new Interrupted();
      if (character === '\u0004') return typed;
      if (character === '\u007f' || character === '\b') typed = typed.replace(/.$/su, '');
      else if (typed.length < 4096) typed += character;
    }
  }
  return typed;
}

/** Standard input as text; bounded, since nobody means to send more. */
export async function readStdin(io: Io, most: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of io.stdin as AsyncIterable<Uint8Array | string>) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    size += bytes.length;
    if (size > most)
      throw new Failure(exitCodes.usage, 'usage', { detail: `standard input is longer than ${most} bytes` });
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}
