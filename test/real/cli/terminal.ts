/** A person at a terminal: a tmux of its own, typed into and read from. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { until } from '../controller/kit.ts';

const exec = promisify(execFile);

export class Terminal {
  readonly #socket: string;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  /** Starts a command in a terminal of 100 × 30; it stays open afterwards and shows the exit code. */
  static async open(socket: string, command: string, env: Readonly<Record<string, string>>): Promise<Terminal> {
    const terminal = new Terminal(socket);
    const assignments = Object.entries(env).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
    const line = `trap : INT; ${command}; echo "[code $?]"; exec sleep 600`;
    await terminal.#tmux([
      '-f',
      '/dev/null',
      'new-session',
      '-d',
      '-x',
      '100',
      '-y',
      '30',
      ...assignments,
      'sh',
      '-c',
      line,
    ]);
    return terminal;
  }

  async #tmux(args: readonly string[]): Promise<string> {
    const { stdout } = await exec('tmux', ['-S', this.#socket, ...args], { timeout: 10_000 });
    return stdout;
  }

  screen(): Promise<string> {
    return this.#tmux(['capture-pane', '-p', '-S', '-200']);
  }

  async type(text: string, enter = true): Promise<void> {
    await this.#tmux(['send-keys', '-l', text]);
    if (enter) await this.#tmux(['send-keys', 'Enter']);
  }

  /** A key by tmux's name, such as `C-]`. */
  async key(name: string): Promise<void> {
    await this.#tmux(['send-keys', name]);
  }

  /** Waits until the screen shows it; fails with what it shows instead. */
  async shows(what: RegExp, ms = 20_000): Promise<string> {
    let last = '';
    try {
      await until(
        `the screen shows ${what}`,
        async () => {
          last = await this.screen();
          return what.test(last);
        },
        ms,
      );
      return last;
    } catch (error) {
      throw new Error(`the screen shows:\n${last}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    await this.#tmux(['kill-server']).catch(() => undefined);
    await rm(this.#socket, { force: true });
  }
}
