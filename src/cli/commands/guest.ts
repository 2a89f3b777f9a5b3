/** `virga guest …` */
import type { Command } from 'commander';
import { group, type Shell } from '../call.ts';
import { actCommands } from './guest-act.ts';
import { changeCommands } from './guest-change.ts';
import { lookCommands } from './guest-look.ts';
import { runCommand } from './guest-run.ts';
import { snapshotCommands } from './guest-snapshot.ts';
import { streamCommands } from './guest-stream.ts';
import { waitCommand } from './guest-wait.ts';

export function guestCommands(program: Command, shell: Shell): void {
  const guest = group(program, 'guest', 'Guests: run them, look at them, change them');
  runCommand(guest, shell);
  lookCommands(guest, shell);
  actCommands(guest, shell);
  changeCommands(guest, shell);
  snapshotCommands(guest, shell);
  streamCommands(guest, shell);
  waitCommand(guest, shell);
}
