/** `virga completion SHELL`: completion made from the program itself; names come from the site while typing. */
import type { Command } from 'commander';
import { leaf, oneOf, type Call, type Shell } from '../call.ts';
import { readContexts } from '../contexts.ts';
import { script } from '../completion-scripts.ts';
import { listAll, type Lists } from '../lists.ts';

/** Which names an argument takes, by what the help calls it under its command. */
function namesFor(path: readonly string[], argument: string): keyof Lists | 'contexts' | undefined {
  const [group] = path;
  if (argument === 'image' || (group === 'image' && argument === 'name')) return 'image.list';
  if (argument === 'host' || ((group === 'host' || group === 'voters') && argument === 'name')) return 'host.list';
  if (argument === 'guest' || (group === 'guest' && argument === 'name')) return 'guest.list';
  if (group === 'network' && argument === 'name') return 'network.list';
  if (group === 'token' && argument === 'name') return 'token.list';
  if (argument === 'invite') return 'invite.list';
  return group === 'context' && argument === 'name' ? 'contexts' : undefined;
}

/** Options whose value is a name. */
const optionNames: Readonly<Record<string, keyof Lists | 'contexts'>> = {
  '--host': 'host.list',
  '--prefer': 'host.list',
  '--network': 'network.list',
  '--image': 'image.list',
  '--subject': 'guest.list',
  '--context': 'contexts',
};

const creating = new Set(['create', 'add']);

export interface Wish {
  /** Words that fit as they are. */
  readonly words: readonly string[];
  readonly names?: keyof Lists | 'contexts';
  /** Files fit too. */
  readonly files: boolean;
}

/** What may stand at the last place of `words` (which may be empty). Pure. */
export function wish(program: Command, words: readonly string[]): Wish {
  let at = program;
  const path: string[] = [];
  let given = 0;
  for (let index = 0; index < words.length - 1; index += 1) {
    const word = words[index] ?? '';
    const next = at.commands.find((each) => each.name() === word);
    if (next && given === 0) {
      at = next;
      path.push(word);
    } else if (word.startsWith('-')) {
      if (takesValue(at, word) && !word.includes('=')) index += 1;
    } else given += 1;
  }
  const last = words.at(-1) ?? '';
  const before = words.at(-2) ?? '';
  if (before.startsWith('-') && takesValue(at, before)) return valueOf(at, before, last);
  if (last.startsWith('-')) {
    const flags = at.options.filter((each) => !each.hidden).map((each) => each.long ?? each.short ?? '');
    return { words: fitting([...flags, '--help'], last), files: false };
  }
  if (at.commands.length > 0)
    return {
      words: fitting(
        at.commands.map((each) => each.name()),
        last,
      ),
      files: false,
    };
  return argumentOf(at, path, given, last);
}

function argumentOf(at: Command, path: readonly string[], given: number, last: string): Wish {
  const argument = at.registeredArguments[Math.min(given, at.registeredArguments.length - 1)];
  if (!argument || (given >= at.registeredArguments.length && !argument.variadic)) return { words: [], files: false };
  const name = argument.name();
  if (name.includes('|'))
    return {
      words: fitting(
        name.split('|').filter((each) => each !== 'file' && each !== 'url'),
        last,
      ),
      files: name.includes('file'),
    };
  const names = creating.has(path[1] ?? '') && name === 'name' ? undefined : namesFor(path, name);
  return { words: [], files: name === 'file', ...(names === undefined ? {} : { names }) };
}

function takesValue(command: Command, flag: string): boolean {
  const name = flag.split('=')[0] ?? '';
  const option = command.options.find((each) => each.long === name || each.short === name);
  return option !== undefined && (option.required || option.optional);
}

function valueOf(command: Command, flag: string, last: string): Wish {
  const option = command.options.find((each) => each.long === flag || each.short === flag);
  const choices = /<([^>]+\|[^>]+)>/.exec(option?.flags ?? '')?.[1]?.split('|') ?? [];
  const names = optionNames[option?.long ?? ''];
  const files = /<(file|path|file\|key)>/.test(option?.flags ?? '');
  return {
    words: fitting(
      choices.filter((each) => each !== 'file' && each !== 'key'),
      last,
    ),
    files,
    ...(names === undefined ? {} : { names }),
  };
}

const fitting = (words: readonly string[], beginning: string): string[] =>
  words.filter((each) => each.startsWith(beginning));

/** Names of the site that begin so; a site that does not answer gives none, since nobody reads an error here. */
async function namesOf(call: Call, what: keyof Lists | 'contexts', beginning: string): Promise<string[]> {
  if (what === 'contexts') return fitting(Object.keys(readContexts(call.io).contexts), beginning);
  try {
    const signal = AbortSignal.timeout(2000);
    const { items } = await listAll(call.client, what, { name: beginning === '' ? undefined : beginning }, signal);
    return fitting(
      items.map((each) => each.name),
      beginning,
    );
  } catch {
    return [];
  }
}

export function completionCommand(program: Command, shell: Shell): void {
  leaf(program, shell, {
    syntax: 'completion <bash|zsh|fish>',
    summary: 'Print the completion for a shell',
    detail: 'For bash: virga completion bash > /etc/bash_completion.d/virga, or: source <(virga completion bash)',
    manner: 'local',
    examples: ['completion bash', 'completion zsh', 'completion fish'],
    run: async (call) => {
      const which = oneOf(call.args[0] ?? '', ['bash', 'zsh', 'fish']);
      call.out.document({ shell: which, script: script(which) });
      call.out.lines([script(which).trimEnd()]);
      return undefined;
    },
  });
  const hidden = leaf(program, shell, {
    syntax: '__complete [words...]',
    summary: 'Words that fit, for the completion scripts',
    manner: 'look',
    examples: ['__complete guest st'],
    run: async (call) => {
      const wanted = wish(program, call.args);
      const names = wanted.names === undefined ? [] : await namesOf(call, wanted.names, call.args.at(-1) ?? '');
      const found = [...wanted.words, ...names];
      call.out.lines(wanted.files ? [...found, '__files__'] : found);
      return undefined;
    },
  });
  hidden.passThroughOptions(true).allowUnknownOption(true);
  Object.assign(hidden, { _hidden: true });
}
