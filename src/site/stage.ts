/**
 * What the demo shows while it works: one line per step with its time, and on a terminal a board of hosts and guests
 * that is redrawn in place. With `--json` standard output stays empty until the result; the steps go to standard error.
 */
import type { Client } from '../api/client.ts';
import { LiveBoard } from '../cli/board.ts';

export interface Stage {
  step<T>(what: string, work: () => Promise<T>): Promise<T>;
  note(line: string): void;
  say(text: string): void;
  /** From now on the board is shown below the steps (terminals only). */
  board(client: Client): void;
  close(): void;
}

export function openStage(json: boolean): Stage {
  const live = !json && process.stdout.isTTY;
  const started = performance.now();
  let board: LiveBoard | undefined;
  const print = (text: string): void => {
    if (board) board.above(text);
    else (json ? process.stderr : process.stdout).write(`${text}\n`);
  };
  const clock = (): string => `${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`;
  return {
    async step(what, work) {
      print(`${clock()}  ${what} …`);
      const begun = performance.now();
      const result = await work();
      print(`${clock()}  done (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
      return result;
    },
    note: (line) => print(`${' '.repeat(10)}${line}`),
    say: print,
    board(client) {
      if (live) board = new LiveBoard(client, process.stdout);
    },
    close() {
      board?.close();
      board = undefined;
    },
  };
}
