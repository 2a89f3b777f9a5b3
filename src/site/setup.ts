import { createInterface } from 'node:readline/promises';
import { VirgaError } from '../api/errors.ts';
import { ensureUser, install, InstallError, type Purpose } from '../setup/packages.ts';

async function ask(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^(y|yes)?$/i.test((await lines.question(`${question} [Y/n] `)).trim());
  } finally {
    lines.close();
  }
}

/**
 * Installs what these purposes need. On a terminal it asks once; without one, or with `yes`, it installs and says what.
 * Everything goes to standard error, so that `--json` stays one document.
 */
export async function ensureInstalled(purposes: readonly Purpose[], yes: boolean): Promise<void> {
  const onTerminal = process.stdin.isTTY && process.stderr.isTTY && !yes;
  try {
    await install({
      purposes,
      confirm: onTerminal ? ask : () => Promise.resolve(true),
      out: (line) => process.stderr.write(`${line}\n`),
    });
    await ensureUser();
  } catch (error) {
    if (!(error instanceof InstallError)) throw error;
    throw new VirgaError('setup', { detail: error.message, how: 'Then run the command again.' }, { cause: error });
  }
}
