/**
 * Makes the reference documentation and the JSON schema of site files from the program, the route table and the
 * schemas: `node src/docs.ts --write`. Without `--write` it says what is out of date (exit code 1).
 */
import { readFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Argument, Command, Option } from 'commander';
import { errorRegistry } from '../api/errors.ts';
import { routes } from '../api/routes.ts';
import { jsonSchema } from '../api/site-file.ts';
import { Shell } from './call.ts';
import { buildProgram, type LocalCommand } from './program.ts';
import { apiPage } from './reference-api.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** A program for reading only; nothing is written to a terminal. */
export function programToRead(local: readonly LocalCommand[] = []): Command {
  const silent = new PassThrough();
  return buildProgram(
    local,
    new Shell({ stdin: silent, stdout: silent, stderr: silent, env: {}, interrupted: new AbortController().signal }),
  );
}

/** Commands that do something, with their whole name, in the order of the help. */
export function commandsOf(program: Command): { readonly name: string; readonly command: Command }[] {
  const found: { name: string; command: Command }[] = [];
  const visit = (at: Command, path: readonly string[]): void => {
    for (const command of at.commands) {
      if (command.name().startsWith('__')) continue;
      const here = [...path, command.name()];
      if (command.commands.length === 0) found.push({ name: here.join(' '), command });
      else visit(command, here);
    }
  };
  visit(program, []);
  return found;
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const usageOf = ({ name, command }: { name: string; command: Command }): string =>
  ['virga', name, ...command.registeredArguments.map(argumentText)].join(' ');
const argumentText = (argument: Argument): string => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
};

/** Options that every command with a site has; said once, at the top. */
const shared = new Set(['--context', '--socket', '--url', '--json', '--reason', '--yes', '--quiet', '--output']);
const isOwn = (option: Option): boolean =>
  !option.hidden && !(shared.has(option.long ?? '') && option.helpGroupHeading !== 'Options:');

function commandSection(entry: { name: string; command: Command }): string {
  const { command } = entry;
  const lines = [`### virga ${entry.name}`, '', command.description(), '', '```', usageOf(entry), '```', ''];
  const own = command.options.filter(isOwn);
  if (own.length > 0) {
    lines.push('| Option | Meaning |', '| --- | --- |');
    for (const option of own) lines.push(`| \`${cell(option.flags)}\` | ${cell(option.description)} |`);
    lines.push('');
  }
  const common = command.options.filter(
    (option) => !isOwn(option) && !['--context', '--socket', '--url'].includes(option.long ?? ''),
  );
  if (common.length > 0) lines.push(`Also ${common.map((option) => `\`${option.long ?? ''}\``).join(', ')}.`, '');
  return lines.join('\n');
}

/** `docs/reference/cli.md` */
export function cliPage(program: Command): string {
  const entries = commandsOf(program);
  const groups = new Map<string, typeof entries>();
  for (const entry of entries) {
    const group = entry.name.includes(' ') ? (entry.name.split(' ')[0] ?? '') : '';
    groups.set(group, [...(groups.get(group) ?? []), entry]);
  }
  const parts = [
    '# Command line',
    '',
    'Made from the program by `node src/docs.ts --write`; `virga COMMAND --help` says the same.',
    '',
    '## What all commands share',
    '',
    '| Option | Meaning |',
    '| --- | --- |',
    "| `--context NAME`, `--socket PATH`, `--url URL` | which site; otherwise `VIRGA_SOCKET`, `VIRGA_URL` with `VIRGA_TOKEN` (and `VIRGA_CA`, a file), `VIRGA_CONTEXT`, the context in use, and then this machine's `/run/virga/virga.sock` |",
    '| `--json` | one JSON document on standard output, errors too: `{"error":{"code","message","hint","values"}}` |',
    "| `--reason TEXT` | why; goes into the record, required on others' objects |",
    '| `-y`, `--yes` | do not ask before something is lost; without a terminal nothing is asked, and without `--yes` it is refused |',
    '| `-q`, `--quiet` | lists: names only; changes: no summary |',
    '| `-o`, `--output table`, `wide`, `json` | lists: how they look |',
    '',
    'Colours appear on a terminal only, and never with `NO_COLOR`. `VIRGA_DEBUG=1` shows what lies under an error.',
    'Sizes are powers of 1024 with their unit (`512M`, `2G`), durations `60s`, `5m`, `2h`, `90d`.',
    'A selector (`--label`) is `KEY=VALUE`, `KEY!=VALUE` or `KEY`; several are joined by commas and must all hold.',
    '',
    '| Exit code | Meaning |',
    '| --- | --- |',
    '| 0 | done |',
    '| 1 | the site refused, or `diff` found differences |',
    '| 2 | wrong usage, or a mistake in a file that was given |',
    '| 3 | the site does not answer |',
    '| 4 | the time to wait was over |',
    '| 5 | not confirmed |',
    '| 130 | interrupted |',
    '',
  ];
  for (const [group, members] of groups) {
    const title = group === '' ? 'The site' : `virga ${group}`;
    parts.push(`## ${title}`, '', ...members.map(commandSection));
  }
  return `${parts.join('\n').trimEnd()}\n`;
}

export interface Page {
  readonly path: string;
  readonly text: string;
}

/** All generated files. */
export function pages(program: Command = programToRead()): Page[] {
  return [
    { path: 'docs/reference/cli.md', text: cliPage(program) },
    { path: 'docs/reference/api.md', text: apiPage(routes, errorRegistry) },
    { path: 'docs/site.schema.json', text: `${JSON.stringify(jsonSchema(), undefined, 2)}\n` },
  ];
}

/** The pages whose files say something else. */
export function outdated(from: string = root, all: readonly Page[] = pages()): string[] {
  return all.filter((page) => read(join(from, page.path)) !== page.text).map((page) => page.path);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes all pages below a folder. */
export function writePages(to: string = root, all: readonly Page[] = pages()): void {
  for (const page of all) {
    mkdirSync(dirname(join(to, page.path)), { recursive: true });
    writeFileSync(join(to, page.path), page.text);
  }
}
