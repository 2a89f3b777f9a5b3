/** The distribution's packages: what is needed for what, what is missing, and their installation. */
import { install, type Installed } from './install.ts';
import type { Purpose } from './requirements.ts';

export { install, InstallError, type Installed, type InstallOptions } from './install.ts';
export { byHand, missing, required, type Purpose, type Requirement } from './requirements.ts';
export { ensureUser, operatingSystem, systemUser, type Family, type OperatingSystem } from './system.ts';

export interface InstallForOptions {
  /** Do not ask. */
  readonly yes?: boolean;
  /** Asked when not `yes`; without it, nothing is installed unless `yes`. */
  readonly confirm?: (question: string) => Promise<boolean>;
  readonly out: (line: string) => void;
}

/** `install` for a command with a `--yes`. Throws `InstallError` when something is missing and not agreed to. */
export function installFor(purposes: readonly Purpose[], options: InstallForOptions): Promise<Installed> {
  const refuse = (): Promise<boolean> => Promise.resolve(false);
  const confirm = options.yes === true ? () => Promise.resolve(true) : (options.confirm ?? refuse);
  return install({ purposes, confirm, out: options.out });
}

/** Installs for every purpose without asking, saying on standard error what is done: for tests and `--yes`. */
export function installAll(out: (line: string) => void = (line) => console.error(line)): Promise<Installed> {
  return install({ purposes: ['controller', 'agent', 'testbed', 'tests'], confirm: () => Promise.resolve(true), out });
}
