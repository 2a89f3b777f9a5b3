import type { Command } from 'commander';
import type { Shell } from '../call.ts';
export function applyCommands(_program: Command, _shell: Shell): void {}
