/**
 * The local commands: they make this machine into a site, or into a part of one. Each loads its part only when it runs,
 * so that `virga status` starts fast.
 */
import type { LocalCall, LocalCommand } from './cli/program.ts';
import { defaults } from './site/paths.ts';

const flag = (call: LocalCall, name: string): boolean => call.options[name] === true;
const text = (call: LocalCall, name: string): string | undefined => {
  const value = call.options[name];
  return typeof value === 'string' ? value : undefined;
};
const number = (call: LocalCall, name: string, fallback: number): number => Number(text(call, name) ?? fallback);

export const local: readonly LocalCommand[] = [
  {
    syntax: 'demo',
    summary: 'Three simulated physical hosts on this machine, with real guests',
    detail:
      'Installs what is missing (it asks once on a terminal), starts a site, runs six guests, kills one behind libvirt’s back and shows how it comes back. Ctrl-C removes everything.',
    examples: ['demo', 'demo --once --json --yes'],
    configure: (command) =>
      command
        .option('--once', 'remove everything when it has been shown')
        .option('--json', 'one JSON document on standard output')
        .option('-y, --yes', 'install missing packages without asking')
        .option('--hosts <n>', 'simulated hosts, 1 to 10', '3')
        .option('--guests <n>', 'guests, 1 to 60', '6'),
    run: async (call) => {
      const { demo } = await import('./site/demo.ts');
      return demo({
        once: flag(call, 'once'),
        json: flag(call, 'json'),
        yes: flag(call, 'yes'),
        hosts: number(call, 'hosts', 3),
        guests: number(call, 'guests', 6),
      });
    },
  },
  {
    syntax: 'up',
    summary: 'This machine as a site: controller and first host',
    detail: 'Runs in the foreground until Ctrl-C, or in the background with --detach. Stopping it stops no guest.',
    examples: ['up', 'up --detach', 'up --listen 192.0.2.10:7443'],
    configure: (command) =>
      command
        .option('--data <folder>', 'where everything is kept', defaults.dataDir)
        .option('--name <name>', 'name of the site', 'site')
        .option('--listen <address>', 'HOST:PORT for agents and remote clients', `127.0.0.1:${defaults.port}`)
        .option('-d, --detach', 'return when it is up')
        .option('-y, --yes', 'install missing packages without asking'),
    run: async (call) => {
      const { up } = await import('./site/up.ts');
      return up({
        data: text(call, 'data') ?? defaults.dataDir,
        name: text(call, 'name') ?? 'site',
        listen: text(call, 'listen') ?? `127.0.0.1:${defaults.port}`,
        detach: flag(call, 'detach'),
        yes: flag(call, 'yes'),
      });
    },
  },
  {
    syntax: 'down',
    summary: 'Stop what "up" started; guests run on',
    examples: ['down', 'down --guests'],
    configure: (command) => command.option('--guests', 'stop every guest first, politely'),
    run: async (call) => {
      const { down } = await import('./site/up.ts');
      return down({ guests: flag(call, 'guests') });
    },
  },
  {
    syntax: 'doctor',
    summary: 'What this machine has and lacks, and what to do',
    detail: 'Looks only; changes nothing. Exit code 1 when something is missing that Virga cannot do without.',
    examples: ['doctor', 'doctor --json'],
    configure: (command) => command.option('--json', 'one JSON document'),
    run: async (call) => {
      const { doctor } = await import('./site/doctor.ts');
      return doctor({ json: flag(call, 'json') });
    },
  },
  {
    syntax: 'controller <what>',
    summary: 'Run the controller ("controller run"); "up" does this for you',
    examples: [
      'controller run --data /var/lib/virga/controller --listen 192.0.2.10:7443',
      'controller run --listen fd:3',
    ],
    configure: (command) =>
      command
        .option('--data <folder>', 'state, images, keys', `${defaults.dataDir}/controller`)
        .option('--socket <path>', 'unix socket for administrators', defaults.socket)
        .option('--listen <address...>', 'HOST:PORT or fd:N, TLS')
        .option('--advertise <url...>', 'how agents and clients reach it, where it differs')
        .option('--name <name>', 'name of a new site', 'site')
        .option('--backup-dir <folder>', 'scheduled backups go here')
        .option('--backup-hours <n>', 'hours between two scheduled backups', '24')
        .option('--backup-keep <n>', 'scheduled backups kept', '14')
        .option(
          '--backup-recipient <age...>',
          'age recipients: only then the keys of the site are in scheduled backups',
        )
        .addHelpText('after', '\nDATABASE_URL: another PostgreSQL than the embedded one.'),
    run: async (call) => (await import('./site/main.ts')).controller(call),
  },
  {
    syntax: 'agent <what> [args...]',
    summary: 'Join this host to a site ("agent join URL TOKEN"), or run its agent ("agent run")',
    examples: ['agent join https://192.0.2.10:7443 vgi1.…', 'agent run'],
    configure: (command) =>
      command
        .option('--data <folder>', 'state, images, disks', `${defaults.dataDir}/agent`)
        .option('--socket <path>', 'libvirt’s socket, where it is not the usual one')
        .option('--name <name>', 'name of the host; its own by default')
        .option('--image-cache <GiB>', 'size of the image cache', '50'),
    run: async (call) => (await import('./site/main.ts')).agent(call),
  },
  {
    syntax: 'restore <file>',
    summary: 'Restore a backup into the database of this machine, while the controller is stopped',
    detail:
      'Nothing that the restored state does not know is destroyed until a person has reviewed it ("virga review"). With --database it restores into that PostgreSQL.',
    examples: ['restore site.backup', 'restore site.backup.age --passphrase-file secret --replace'],
    configure: (command) =>
      command
        .option('--data <folder>', 'the controller’s data folder', `${defaults.dataDir}/controller`)
        .option('--passphrase-file <file>', 'passphrase of an encrypted backup')
        .option('--identity <file>', 'age identity of an encrypted backup')
        .option('--replace', 'replace the state that is there')
        .option('--json', 'one JSON document'),
    run: async (call) => (await import('./site/main.ts')).restore(call),
  },
  {
    syntax: 'test [paths...]',
    summary: 'Install what is missing and run every test',
    examples: ['test', 'test --quick', 'test libvirt', 'test --long'],
    configure: (command) =>
      command
        .option('--quick', 'only what needs neither root nor guests')
        .option('--long', 'also what takes many minutes'),
    run: async (call) => {
      const { test } = await import('../test/run.ts');
      return test({ quick: flag(call, 'quick'), long: flag(call, 'long'), only: call.args });
    },
  },
  {
    syntax: 'bench [names...]',
    summary: 'Measure; every figure with its bound and a ratio of the same run',
    examples: ['bench', 'bench libvirt --json'],
    configure: (command) => command.option('--json', 'one JSON document per bench'),
    run: async (call) => {
      const { bench } = await import('../bench/run.ts');
      return bench({ names: call.args, json: flag(call, 'json') });
    },
  },
];
