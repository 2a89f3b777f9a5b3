/** `virga token …` */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { TokenView } from '../../api/schemas.ts';
import { group, leaf, oneOf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { fileFailure } from '../failure.ts';
import { each, listAll, report } from '../lists.ts';
import type { Column } from '../ui/table.ts';
import { ago, parseSeconds } from '../units.ts';

const columns: readonly Column<TokenView>[] = [
  { title: 'NAME', value: (token) => token.name, tone: 'bold' },
  { title: 'ROLE', value: (token) => token.spec.role },
  { title: 'EXPIRES', value: (token) => ago(token.spec.expiresAt) },
  { title: 'USED', value: (token) => ago(token.status.lastUsedAt) },
  { title: 'OWNER', value: (token) => token.owner },
  { title: 'ID', value: (token) => token.id, tone: 'dim', wide: true },
];

interface CreateOptions {
  readonly role?: 'admin' | 'read';
  readonly validFor?: number;
  readonly file?: string;
}

async function create(call: Call<CreateOptions>): Promise<void> {
  const { role, validFor, file } = call.options;
  const body = {
    name: call.args[0] ?? `token-${randomUUID().slice(0, 8)}`,
    ...(role === undefined ? {} : { role }),
    ...(validFor === undefined ? {} : { validSeconds: Math.round(validFor) }),
  };
  const made = await call.client.call('token.create', { body, ...call.change });
  if (file !== undefined) {
    try {
      writeFileSync(file, `${made.secret}\n`, { mode: 0o600, flag: 'wx' });
    } catch (error) {
      // Nobody can read this secret any more, so the token is of no use to anyone.
      await call.client.call('token.revoke', { params: { token: made.token.id }, ...call.change });
      throw fileFailure(file, error);
    }
    call.out.document({ token: made.token, file });
    call.out.line(made.token.name);
  } else {
    call.out.document(made);
    call.out.line(made.secret);
    call.out.note('This is shown once and kept nowhere.');
  }
  call.out.note(
    `${made.token.name} (${made.token.spec.role}) ends ${ago(made.token.spec.expiresAt)}. Use it: virga context add NAME URL --token-file FILE`,
  );
}

async function revoke(call: Call): Promise<number> {
  await confirm(call, `This revokes ${call.args.join(', ')}; whoever uses it is locked out at once`);
  const outcomes = await each(call.args, async (token) => {
    await call.client.call('token.revoke', { params: { token }, ...call.change });
    return { removed: token };
  });
  return report(call, outcomes, { kind: 'token', done: 'revoked', say: (one) => `${one.name} is revoked` });
}

export function accessCommands(program: Command, shell: Shell): void {
  const token = group(program, 'token', 'Tokens: access from other machines');
  leaf<CreateOptions>(token, shell, {
    syntax: 'create [name]',
    summary: 'Create a token; its secret is shown once',
    manner: 'act',
    options: (command) =>
      command
        .option('--role <admin|read>', 'read looks only', (text) => oneOf(text, ['admin', 'read']))
        .option('--valid-for <duration>', 'default 90d, at most 366d', parseSeconds)
        .option('--file <file>', 'write the secret there (0600) instead of showing it'),
    examples: ['token create ada --valid-for 30d', 'token create monitoring --role read --file /etc/virga-token'],
    run: create,
  });
  leaf(token, shell, {
    syntax: 'list',
    summary: 'List tokens, never their secrets',
    manner: 'list',
    examples: ['token list'],
    run: async (call) => {
      const { items } = await listAll(call.client, 'token.list', {}, call.io.interrupted);
      call.out.list(items, columns, 'No tokens.');
      return undefined;
    },
  });
  leaf(token, shell, {
    syntax: 'revoke <name...>',
    summary: 'Revoke tokens',
    manner: 'destroy',
    examples: ['token revoke ada'],
    run: revoke,
  });
}
