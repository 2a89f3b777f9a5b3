/** `guest run` */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Body } from '../../api/routes.ts';
import type { GuestView } from '../../api/schemas.ts';
import { leaf, oneOf, type Call, type Shell } from '../call.ts';
import { exitCodes, fileFailure, usage } from '../failure.ts';
import { repeating } from '../lists.ts';
import { collect, counted, parseLabels, parseMiB, parseSeconds, parseWhole } from '../units.ts';
import { readStdin } from '../confirm.ts';
import { haText, recoveryBody, recoveryOptions, type RecoveryOptions } from './guest-recovery.ts';
import { waitForGuests } from './guest-wait.ts';

interface RunOptions extends RecoveryOptions {
  readonly name?: string;
  readonly count?: number;
  readonly partial?: boolean;
  readonly cpus?: number;
  readonly maxCpus?: number;
  readonly memory?: number;
  readonly maxMemory?: number;
  readonly disk?: number;
  readonly diskMode?: 'keep' | 'fresh';
  readonly network?: string[];
  readonly address?: string[];
  readonly label?: string[];
  readonly userData?: string;
  readonly sshKey?: string[];
  readonly restart?: 'always' | 'on-failure' | 'never';
  readonly host?: string;
  readonly grace?: number;
  readonly firmware?: 'bios' | 'uefi';
  readonly machineType?: string;
  readonly cpuModel?: string;
  readonly wait?: boolean;
  readonly timeout?: number;
}

const mostUserData = 32 * 1024;

/** An ssh key as it stands, or the file that has it (with several, one a line). */
export function sshKeys(given: readonly string[] | undefined): string[] | undefined {
  if (!given) return undefined;
  const keys = given.flatMap((each) => {
    if (/^(ssh-|ecdsa-|sk-)\S+ \S/.test(each)) return [each];
    try {
      return readFileSync(each, 'utf8')
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '' && !line.startsWith('#'));
    } catch (error) {
      throw fileFailure(each, error);
    }
  });
  const secret = keys.find((each) => each.includes('PRIVATE KEY'));
  if (secret !== undefined) throw usage('--ssh-key got a private key; give the public one (.pub)');
  return keys;
}

function addressesOf(given: readonly string[] | undefined, networks: readonly string[] | undefined) {
  if (!given) return undefined;
  const addresses: Record<string, string> = {};
  for (const each of given) {
    const at = each.indexOf('=');
    const network = at > 0 ? each.slice(0, at) : networks?.length === 1 ? (networks[0] ?? '') : '';
    if (network === '') throw usage(`--address ${each}: say on which network: --address NETWORK=ADDRESS`);
    if (addresses[network] !== undefined) throw usage(`two addresses for the network "${network}"`);
    addresses[network] = each.slice(at + 1);
  }
  return addresses;
}

async function userDataOf(call: Call<RunOptions>): Promise<string | undefined> {
  const path = call.options.userData;
  if (path === undefined) return undefined;
  if (path === '-') return readStdin(call.io, mostUserData);
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fileFailure(path, error);
  }
}

async function bodyOf(call: Call<RunOptions>): Promise<Body<'guest.run'>> {
  const { options } = call;
  const given = {
    name: options.name,
    count: options.count,
    partial: options.partial,
    cpus: options.cpus,
    maxCpus: options.maxCpus,
    memoryMiB: options.memory,
    maxMemoryMiB: options.maxMemory,
    diskMiB: options.disk,
    diskMode: options.diskMode,
    networks: options.network?.includes('none') === true ? [] : options.network,
    addresses: addressesOf(options.address, options.network),
    labels: options.label && parseLabels(options.label),
    userData: await userDataOf(call),
    sshKeys: sshKeys(options.sshKey),
    restart: options.restart,
    host: options.host,
    graceSeconds: options.grace,
    firmware: options.firmware,
    machineType: options.machineType,
    cpuModel: options.cpuModel,
    ...recoveryBody(options),
  };
  const body: Record<string, unknown> = { image: call.args[0] ?? '' };
  for (const [key, value] of Object.entries(given)) if (value !== undefined) body[key] = value;
  return body as Body<'guest.run'>;
}

/** The guests of one request are alike: what holds for the first holds for all. */
function tellHa(call: Call, first: GuestView | undefined): void {
  if (first) call.out.note(`When a host is lost: ${haText(first)}`);
}

async function run(call: Call<RunOptions>): Promise<number> {
  const body = await bodyOf(call);
  const idempotencyKey = randomUUID();
  const made = await repeating(call.io.interrupted, () =>
    call.client.call('guest.run', { body, idempotencyKey, timeoutMs: 60_000, ...call.change }),
  );
  const names = made.items.map((each) => each.name);
  for (const refusal of made.refused) if (!call.out.json) call.io.stderr.write(`virga: not run: ${refusal}\n`);
  if (call.options.wait !== true) {
    call.out.document(made);
    call.out.lines(names);
    if (names.length > 0) call.out.note(`${counted(names.length, 'guest')} accepted; see: virga guest list`);
    tellHa(call, made.items[0]);
    return made.refused.length > 0 ? exitCodes.refused : exitCodes.ok;
  }
  const items = await waitForGuests(call, names, 'running', call.options.timeout ?? 300);
  call.out.document({ ...made, items });
  call.out.lines(names);
  tellHa(call, made.items[0]);
  return made.refused.length > 0 ? exitCodes.refused : exitCodes.ok;
}

export function runCommand(guest: Command, shell: Shell): void {
  leaf<RunOptions>(guest, shell, {
    syntax: 'run <image>',
    summary: 'Run guests from an image',
    detail:
      'Prints the names. With --count N the guests are NAME-1 … NAME-N, all or nothing unless --partial. ' +
      'A repeat after a broken connection creates nothing twice.',
    manner: 'act',
    options: (command) => {
      command
        .option('--name <name>', 'name, or stem of the names; otherwise from the image')
        .option('--count <n>', 'how many', parseWhole(1, 1024))
        .option('--partial', 'take what fits instead of all or nothing')
        .option('--cpus <n>', 'virtual CPUs', parseWhole(1, 1024))
        .option('--memory <size>', 'e.g. 512M or 2G', parseMiB)
        .option('--disk <size>', "size of the disk, at least the image's, e.g. 10G", parseMiB)
        .option('--max-cpus <n>', 'upper bound for a resize while it runs', parseWhole(1, 1024))
        .option('--max-memory <size>', 'upper bound for a resize while it runs', parseMiB)
        .option('--disk-mode <keep|fresh>', 'keep the disk for life, or a fresh one at each start', (text) =>
          oneOf(text, ['keep', 'fresh']),
        )
        .option('--network <name>', 'network; may be repeated; "none" for no network', collect)
        .option('--address <network=address>', 'fixed address; may be repeated', collect)
        .option('-l, --label <key=value>', 'label; may be repeated', collect)
        .option('--user-data <file>', 'for cloud-init; - is standard input')
        .option('--ssh-key <file|key>', 'public key that may log in; may be repeated', collect)
        .option('--restart <always|on-failure|never>', 'default on-failure: off from inside stays off', (text) =>
          oneOf(text, ['always', 'on-failure', 'never']),
        )
        .option('--host <name>', 'only on this host')
        .option('--grace <duration>', 'time between the polite stop and the forced one', parseSeconds)
        .option('--firmware <bios|uefi>', 'firmware', (text) => oneOf(text, ['bios', 'uefi']))
        .option('--machine-type <type>', 'e.g. pc-q35-7.2; otherwise the newest that the hosts share')
        .option('--cpu-model <model>', 'e.g. qemu64; otherwise one that the hosts share')
        .option('-w, --wait', 'wait until they run')
        .option('--timeout <duration>', 'of --wait; default 5m', parseSeconds);
      recoveryOptions(command);
    },
    examples: [
      'guest run debian --cpus 2 --memory 2G --ssh-key ~/.ssh/id_ed25519.pub --wait',
      'guest run debian --name web --count 3 --label role=web --network lan',
      'guest run worker --count 64 --partial --disk-mode fresh --restart always',
      'guest run debian --name front --disk-mode fresh --priority 90 --prefer h1 --prefer h2',
      'guest run debian --name db --address lan=10.0.0.5 --user-data setup.yaml',
    ],
    run,
  });
}
