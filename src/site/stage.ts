/**
 * What the demo shows while it works: one line per step with its time, and on a terminal a board of hosts and guests
 * that is redrawn in place, with the newest steps below it. With `--json` standard output stays empty until the result;
 * the steps go to standard error.
 */
import type { Client } from '../api/client.ts';
import { LiveSite } from '../cli/commands/top.ts';
import { pause, processIo } from '../cli/io.ts';
import { LiveBoard } from '../cli/ui/board.ts';

export interface Stage {
  step<T>(what: string, work: () => Promise<T>): Promise<T>;
  note(line: string): void;
  say(text: string): void;
  /** From now on the board is shown (terminals only), until the returned function ends it. */
  board(client: Client): () => Promise<void>;
}

const redrawMs = 400;
const keptLines = 3;

export function openStage(json: boolean): Stage {
  const io = processIo();
  const live = !json && io.stdout.isTTY === true;
  const started = performance.now();
  const lines: string[] = [];
  let drawing = false;
  const print = (text: string): void => {
    lines.push(text);
    if (!drawing) (json ? io.stderr : io.stdout).write(`${text}\n`);
  };
  const clock = (): string => `${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`;

  const draw = async (client: Client, ended: AbortSignal): Promise<void> => {
    const site = new LiveSite({ client, io });
    const board = new LiveBoard(io);
    const following = site.follow(ended).catch(() => undefined);
    const show = (): void => board.draw({ ...site.state, messages: lines.slice(-keptLines) });
    while (!ended.aborted) {
      show();
      await pause(redrawMs, ended).catch(() => undefined);
    }
    show();
    board.close();
    await following;
  };

  return {
    async step(what, work) {
      print(`${clock()}  ${what} …`);
      const begun = performance.now();
      const result = await work();
      print(`${clock()}  done: ${what} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
      return result;
    },
    note: (line) => print(`${' '.repeat(10)}${line}`),
    say: print,
    board(client) {
      if (!live) return () => Promise.resolve();
      const end = new AbortController();
      drawing = true;
      const done = draw(client, end.signal);
      return async () => {
        end.abort();
        await done;
        drawing = false;
      };
    },
  };
}
