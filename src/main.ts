#!/usr/bin/env node
/** The one entry of Virga: the command line of a site, and the local commands. */

const argv = process.argv.slice(2);

/** Those that stay resident beside guests load only their own part. */
async function lean(): Promise<number | undefined> {
  if (!['keeper', 'guard', 'witness'].includes(argv[0] ?? '')) return undefined;
  const { runLean } = await import('./keeper/main.ts');
  return runLean(argv);
}

async function whole(): Promise<number> {
  const [{ runCli }, { local }] = await Promise.all([import('./cli/main.ts'), import('./local.ts')]);
  return runCli(argv, local);
}

process.exitCode = (await lean()) ?? (await whole());
