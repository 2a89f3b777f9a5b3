/** What a command gets: its arguments, the site's client, and the ways to speak to the person. */
import type { Command } from 'commander';
import { openClient, type Client } from '../api/client.ts';
import { whereOf, type WhereOptions } from './contexts.ts';
import { usage } from './failure.ts';
import type { Io } from './io.ts';
import { Output } from './ui/output.ts';

export interface CommonOptions extends WhereOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly output?: 'table' | 'wide' | 'json';
  readonly reason?: string;
  readonly yes?: boolean;
}

export interface Call<O = object> {
  readonly args: readonly string[];
  readonly options: O & CommonOptions;
  readonly io: Io;
  readonly out: Output;
  /** Opened at first use. */
  readonly client: Client;
  /** `{ reason, signal }`, to be spread into each change. */
  readonly change: { readonly reason?: string; readonly signal: AbortSignal };
  readonly look: { readonly signal: AbortSignal };
}

/**
 * `list`: names only, wide · `look`: shows · `act`: changes, with a reason · `destroy`: also asks first ·
 * `local`: speaks to no site.
 */
export type Manner = 'list' | 'look' | 'act' | 'destroy' | 'local';

export interface Leaf<O> {
  /** `run <image>`: name and arguments, in the notation of commander. */
  readonly syntax: string;
  readonly summary: string;
  /** Paragraph below the summary in the help. */
  readonly detail?: string;
  readonly manner: Manner;
  /** What the group does when no command of it is named. */
  readonly usual?: true;
  readonly options?: (command: Command) => unknown;
  /** Without the leading `virga `. */
  readonly examples: readonly string[];
  /** Gives the exit code where it is not 0. */
  readonly run: (call: Call<O>) => Promise<number | void>;
}

/** One invocation of the program. */
export class Shell {
  readonly io: Io;
  exitCode = 0;
  #client: Client | undefined;

  constructor(io: Io) {
    this.io = io;
  }

  open(options: WhereOptions): Client {
    this.#client ??= openClient(whereOf(this.io, options));
    return this.#client;
  }

  async close(): Promise<void> {
    await this.#client?.close();
    this.#client = undefined;
  }
}

function siteOptions(command: Command): void {
  command
    .optionsGroup('Which site:')
    .option('--context <name>', 'a site added with "virga context add"')
    .option('--socket <path>', "the controller's unix socket")
    .option('--url <url>', 'https address of the controller (token from VIRGA_TOKEN or a context)');
}

function mannerOptions(command: Command, manner: Manner): void {
  command.optionsGroup('Output:').option('--json', 'one JSON document instead of text');
  if (manner === 'list')
    command
      .option('-q, --quiet', 'names only')
      .option('-o, --output <table|wide|json>', 'wide shows more columns', (text) =>
        oneOf(text, ['table', 'wide', 'json']),
      );
  if (manner === 'act' || manner === 'destroy') {
    command.option('-q, --quiet', 'no summary').optionsGroup('Record:');
    command.option('--reason <text>', "why; goes into the site's record, required on others' objects");
  }
  if (manner === 'destroy') command.optionsGroup('Confirmation:').option('-y, --yes', 'do not ask');
}

/** For options with fixed words. */
export function oneOf<const V extends string>(text: string, values: readonly V[]): V {
  const found = values.find((each) => each === text);
  if (found === undefined) throw usage(`"${text}" is none of ${values.join(', ')}`);
  return found;
}

/** Options given before the command (`virga --context x guest list`) count as well. */
function programOptions(command: Command): CommonOptions {
  let top = command;
  while (top.parent) top = top.parent;
  return top.opts<CommonOptions>();
}

/** Adds one command. */
export function leaf<O = object>(parent: Command, shell: Shell, definition: Leaf<O>): Command {
  const command = parent
    .command(definition.syntax, { isDefault: definition.usual === true })
    .summary(definition.summary);
  command.description(definition.detail ? `${definition.summary}.\n\n${definition.detail}` : `${definition.summary}.`);
  command.optionsGroup('Options:');
  definition.options?.(command);
  mannerOptions(command, definition.manner);
  if (definition.manner !== 'local') siteOptions(command);
  command.addHelpText('after', `\nExamples:\n${definition.examples.map((each) => `  virga ${each}`).join('\n')}`);
  command.action(async () => {
    const options = { ...programOptions(command), ...command.opts<O & CommonOptions>() };
    const json = options.json === true || options.output === 'json';
    const out = new Output(shell.io, { json, quiet: options.quiet === true, wide: options.output === 'wide' });
    const code = await definition.run({
      args: (command.processedArgs as readonly (string | readonly string[] | undefined)[])
        .flat()
        .filter((each) => each !== undefined),
      options,
      io: shell.io,
      out,
      get client() {
        return shell.open(options);
      },
      change: { signal: shell.io.interrupted, ...(options.reason === undefined ? {} : { reason: options.reason }) },
      look: { signal: shell.io.interrupted },
    });
    shell.exitCode = code ?? 0;
  });
  return command;
}

/** A group of commands, such as `guest`. */
export function group(parent: Command, name: string, summary: string): Command {
  return parent.command(name).summary(summary).description(`${summary}.`);
}
