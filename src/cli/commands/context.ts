/** `virga context …`: the sites that this person works with. */
import type { Command } from 'commander';
import { openClient } from '../../api/client.ts';
import { group, leaf, type Call, type Shell } from '../call.ts';
import { authorityOf } from '../authority.ts';
import { askSecret, canAsk, confirm, readStdin } from '../confirm.ts';
import { addressesOf, readContexts, readText, writeContexts, type Context } from '../contexts.ts';
import { usage } from '../failure.ts';
import type { Column } from '../ui/table.ts';

interface AddOptions {
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly fingerprint?: string;
  readonly socketPath?: string;
  readonly force?: boolean;
  readonly check?: boolean;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;

async function tokenOf(call: Call<AddOptions>): Promise<string> {
  const { tokenFile } = call.options;
  const { io } = call;
  let token: string;
  if (tokenFile === '-' || (tokenFile === undefined && !canAsk(io))) token = await readStdin(io, 4096);
  else if (tokenFile !== undefined) token = readText(tokenFile);
  else token = await askSecret(io, 'Token: ');
  token = token.trim();
  if (token === '') throw usage('no token was given; make one on the site: virga token create NAME');
  if (/\s/.test(token)) throw usage('that is not a token: it has spaces or several lines');
  return token;
}

async function add(call: Call<AddOptions>): Promise<void> {
  const [name = '', url] = call.args;
  const { options } = call;
  if (!namePattern.test(name)) throw usage(`"${name}" is not a context name; use letters, digits and . _ -`);
  if ((url === undefined) === (options.socketPath === undefined))
    throw usage('give an address (https://HOST:PORT), or --socket-path PATH');
  const known = readContexts(call.io);
  if (Object.hasOwn(known.contexts, name) && options.force !== true)
    throw usage(`there is already a context "${name}"; --force replaces it`);
  const context = url === undefined ? { socket: options.socketPath ?? '' } : await remote(call, url);
  const site = options.check === false ? undefined : await nameOfSite(context);
  writeContexts(call.io, { current: known.current ?? name, contexts: { ...known.contexts, [name]: context } });
  call.out.document(shown(name, context, known.current ?? name));
  call.out.line(`${name}${site === undefined ? '' : ` is the site "${site}"`}`);
  if (known.current !== undefined && known.current !== name) call.out.note(`Use it: virga context use ${name}`);
}

async function remote(call: Call<AddOptions>, given: string): Promise<Context> {
  const { url, others } = addressesOf(given);
  const { ca: caFile, fingerprint } = call.options;
  const ca = caFile === undefined ? await authorityOf(call, url, fingerprint) : readText(caFile);
  if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----'))
    throw usage(`${caFile}: that is not a certificate (PEM)`);
  const token = await tokenOf(call);
  return { url, ...(others ? { others } : {}), token, ...(ca === undefined ? {} : { ca }) };
}

/** Asks the site, so that a wrong token or authority is noticed now. */
async function nameOfSite(context: Context): Promise<string> {
  const { socket, url = '', others, token = '', ca } = context;
  const remotely = { url, token, ...(others ? { others } : {}), ...(ca === undefined ? {} : { ca }) };
  const client = openClient(socket === undefined ? remotely : { socket });
  try {
    return (await client.call('site.status', { timeoutMs: 10_000 })).name;
  } finally {
    await client.close();
  }
}

interface Shown {
  readonly name: string;
  readonly current: boolean;
  readonly where: string;
  readonly pinned: boolean;
}

const shown = (name: string, context: Context, current: string | undefined): Shown => ({
  name,
  current: name === current,
  where: context.socket ?? [context.url ?? '', ...(context.others ?? [])].join(','),
  pinned: context.ca !== undefined,
});

const columns: readonly Column<Shown>[] = [
  { title: '', value: (row) => (row.current ? '*' : ' '), tone: 'good' },
  { title: 'NAME', value: (row) => row.name, tone: 'bold' },
  { title: 'WHERE', value: (row) => row.where },
  {
    title: 'AUTHORITY',
    value: (row) => (row.where.startsWith('https') ? (row.pinned ? 'pinned' : "the system's") : '-'),
  },
];

export function contextCommands(program: Command, shell: Shell): void {
  const context = group(program, 'context', 'Contexts: the sites you work with');
  leaf<AddOptions>(context, shell, {
    syntax: 'add <name> [url]',
    summary: 'Add a site',
    detail:
      'A site with several controllers: their addresses with commas in between; the one that leads is found. ' +
      'The token is typed, or comes from --token-file or standard input; never from the command line, where others see it. ' +
      'The site’s certificate authority is pinned: by its file, by its fingerprint, or after you have compared it.',
    manner: 'local',
    options: (command) =>
      command
        .option('--token-file <file>', 'token from a file; - is standard input')
        .option('--ca <file>', "the site's certificate authority (PEM)")
        .option('--fingerprint <sha256>', "SHA-256 of the site's certificate authority")
        .option('--socket-path <path>', 'a controller on this machine, by its unix socket')
        .option('--no-check', 'do not ask the site whether it answers')
        .option('--force', 'replace a context of that name'),
    examples: [
      'context add lab https://virga.example.org:8443 --ca ca.pem --token-file token',
      'context add lab https://one.example.org:8443,https://two.example.org:8443 --ca ca.pem',
      'context add here --socket-path /run/virga/virga.sock',
    ],
    run: add,
  });
  leaf(context, shell, {
    syntax: 'list',
    summary: 'List the sites, never their tokens',
    manner: 'local',
    options: (command) => command.option('-q, --quiet', 'names only'),
    examples: ['context list'],
    run: async (call) => {
      const { contexts, current } = readContexts(call.io);
      const rows = Object.entries(contexts).map(([name, each]) => shown(name, each, current));
      call.out.list(rows, columns, 'No contexts; without one the site of this machine is meant.');
      return undefined;
    },
  });
  leaf(context, shell, {
    syntax: 'use <name>',
    summary: 'Choose the site that commands mean from now on',
    manner: 'local',
    examples: ['context use lab'],
    run: async (call) => {
      const [name = ''] = call.args;
      const known = readContexts(call.io);
      const chosen = known.contexts[name];
      if (!chosen || !Object.hasOwn(known.contexts, name))
        throw usage(`there is no context "${name}"; see: virga context list`);
      if (known.current !== name) writeContexts(call.io, { ...known, current: name });
      call.out.document(shown(name, chosen, name));
      call.out.line(known.current === name ? `${name} is in use already` : `${name} is in use`);
      return undefined;
    },
  });
  leaf(context, shell, {
    syntax: 'remove <name>',
    summary: 'Forget a site and its token',
    manner: 'local',
    options: (command) => command.option('-y, --yes', 'do not ask'),
    examples: ['context remove lab'],
    run: async (call) => {
      const [name = ''] = call.args;
      const known = readContexts(call.io);
      if (!Object.hasOwn(known.contexts, name)) throw usage(`there is no context "${name}"; see: virga context list`);
      await confirm(call, `This forgets the site ${name} and its token`);
      const contexts = Object.fromEntries(Object.entries(known.contexts).filter(([each]) => each !== name));
      writeContexts(call.io, {
        contexts,
        ...(known.current === undefined || known.current === name ? {} : { current: known.current }),
      });
      call.out.document({ removed: name });
      call.out.line(`${name} is forgotten`);
      return undefined;
    },
  });
}
