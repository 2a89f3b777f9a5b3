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

async function part(name: 'keeper' | 'guard' | 'witness', call: LocalCall): Promise<number> {
  const { runPart } = await import('./keeper/main.ts');
  const option = (key: string): Record<string, string> => {
    const value = text(call, key);
    return value === undefined ? {} : { [key]: value };
  };
  const listen = call.options['listen'];
  return runPart(name, {
    args: call.args,
    ...option('data'),
    ...option('name'),
    ...option('watchdog'),
    ...option('lapseGrace'),
    ...(Array.isArray(listen) ? { listen: listen.map(String) } : {}),
    say: (line) => call.io.stdout.write(`${line}\n`),
  });
}

export const local: readonly LocalCommand[] = [
  {
    syntax: 'demo',
    summary: 'Three simulated physical hosts on this machine, with real guests',
    detail:
      'Installs what is missing (it asks once on a terminal), starts a site, runs six guests, kills one behind libvirt’s back and shows how it comes back. Then it cuts the power of a host and pulls the switch. Ctrl-C removes everything.',
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
    syntax: 'controller <what> [file]',
    summary: 'Run the controller ("controller run"); "up" does this for you',
    detail:
      'Several controllers of one site share a database (DATABASE_URL) and the site’s certificate authority: "controller export-authority FILE" on the first, --authority FILE on the others. Without a passphrase file or recipient the authority is not exported: it is the key to the site.',
    examples: [
      'controller run --data /var/lib/virga/controller --listen 192.0.2.10:7443',
      'controller run --listen fd:3',
      'controller export-authority site.authority --passphrase-file secret',
      'controller run --authority site.authority --passphrase-file secret --listen 192.0.2.11:7443',
    ],
    configure: (command) =>
      command
        .option('--data <folder>', 'state, images, keys', `${defaults.dataDir}/controller`)
        .option('--socket <path>', 'unix socket for administrators', defaults.socket)
        .option('--listen <address...>', 'HOST:PORT or fd:N, TLS')
        .option('--advertise <url...>', 'how agents and clients reach it, where it differs')
        .option('--name <name>', 'name of a new site', 'site')
        .option('--authority <file>', 'the site’s certificate authority, from another controller')
        .option('--passphrase-file <file>', 'passphrase of that file')
        .option('--identity <file>', 'age identity for that file')
        .option('--recipient <age...>', 'age recipients of an exported authority')
        .option('--backup-dir <folder>', 'scheduled backups go here')
        .option('--backup-hours <n>', 'hours between two scheduled backups', '24')
        .option('--backup-keep <n>', 'scheduled backups kept', '14')
        .option(
          '--backup-recipient <age...>',
          'age recipients: only then the keys of the site are in scheduled backups',
        )
        .addHelpText(
          'after',
          '\nDATABASE_URL: another PostgreSQL than the embedded one; on another machine with sslmode=verify-full&sslrootcert=FILE.',
        ),
    run: async (call) => (await import('./site/main.ts')).controller(call),
  },
  {
    syntax: 'agent <what> [args...]',
    summary: 'Join this host to a site ("agent join URL… TOKEN"), or run its agent ("agent run")',
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
    syntax: 'host leave',
    summary: 'This host leaves in order: its guests are stopped, and the site knows at once',
    detail:
      'What "poweroff" and "reboot" do by themselves where the units of Virga are installed (packaging/systemd). Whether guests start elsewhere at once or wait for the host is a policy of the site ("virga site set --on-host-leave").',
    examples: ['host leave --here', 'host leave --here --reason "new RAM" --within 60'],
    configure: (command) =>
      command
        .option('--here', 'this very machine; nothing else can be meant')
        .option('--reason <text>', 'why; it is recorded')
        .option('--within <seconds>', 'for all guests together; then they are ended', '120')
        .option('--data <folder>', 'of the agent', `${defaults.dataDir}/agent`)
        .option('--json', 'one JSON document'),
    run: async (call) => (await import('./site/leave.ts')).leaveHere(call),
  },
  {
    syntax: 'keeper <what>',
    summary: 'Run the keeper of this host ("keeper run"): it holds the lease and votes',
    detail:
      'It also starts the guard, which freezes highly available guests at the end of the lease. Stopping or upgrading it stops no guest.',
    examples: ['keeper run', 'keeper run --listen 192.0.2.10:7444 --listen 198.51.100.10:7444'],
    configure: (command) =>
      command
        .option('--data <folder>', 'of the agent', `${defaults.dataDir}/agent`)
        .option('--listen <address...>', 'ADDRESS:PORT for beats (UDP), one per network, at most two', ['0.0.0.0:7444'])
        .option('--watchdog <device>', 'hardware watchdog behind the guard, /dev/watchdog')
        .option('--lapse-grace <seconds>', 'from a lapse to the end of guests that hold locks on shared storage'),
    run: async (call) => part('keeper', call),
  },
  {
    syntax: 'guard <what>',
    summary: 'Run the guard of this host ("guard run"); the keeper does this by itself',
    examples: ['guard run'],
    configure: (command) =>
      command
        .option('--data <folder>', 'of the agent', `${defaults.dataDir}/agent`)
        .option('--watchdog <device>', 'hardware watchdog behind the guard, /dev/watchdog')
        .option('--lapse-grace <seconds>', 'from a lapse to the end of guests that hold locks on shared storage'),
    run: async (call) => part('guard', call),
  },
  {
    syntax: 'witness <what> [args...]',
    summary: 'A voter without guests: join ("witness join URL TOKEN"), or run ("witness run")',
    examples: ['witness join https://192.0.2.10:7443 vgi1.…', 'witness run'],
    configure: (command) =>
      command
        .option('--data <folder>', 'credentials and votes', `${defaults.dataDir}/witness`)
        .option('--name <name>', 'name of the witness; the machine’s own by default')
        .option('--listen <address...>', 'ADDRESS:PORT for beats (UDP), one per network, at most two', [
          '0.0.0.0:7444',
        ]),
    run: async (call) => part('witness', call),
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
    syntax: 'sim',
    summary: 'Hours of random faults in virtual time, until a law is violated',
    detail:
      'The real controllers, keepers, guards and agents on simulated machines: power cuts, cut links, stalls, drifting clocks. A failing history is shrunk, printed with its log, and kept in a file that --replay runs again. Ctrl-C says where it was.',
    examples: ['sim --seed 1 --hours 10', 'sim --shape nine --hours 100', 'sim --without barrier --hours 20'],
    configure: (command) =>
      command
        .option('--seed <n>', 'of the first history; each next one is higher by one', '1')
        .option('--hours <n>', 'simulated hours', '1')
        .option('--shape <name>', 'only this site: pair, three, standby, fast, drifting, alone, four, five, nine')
        .option('--replay <file>', 'one history that an earlier run kept')
        .option('--without <rule...>', 'leave out rules of the lease, to see what they are good for')
        .option('--json', 'one JSON document'),
    run: async (call) => {
      const left = call.options['without'];
      const [shape, replay] = [text(call, 'shape'), text(call, 'replay')];
      return (await import('./sim/cli.ts')).sim({
        seed: number(call, 'seed', 1),
        hours: number(call, 'hours', 1),
        without: Array.isArray(left) ? left.map(String) : [],
        json: flag(call, 'json'),
        ...(shape === undefined ? {} : { shape }),
        ...(replay === undefined ? {} : { replay }),
      });
    },
  },
  {
    syntax: 'bench [names...]',
    summary: 'Measure; every figure with its bound and a ratio of the same run',
    examples: ['bench', 'bench libvirt --json', 'bench failover', 'bench quiet --minutes 30'],
    configure: (command) =>
      command
        .option('--json', 'one JSON document per bench')
        .option('--minutes <n>', 'how long "quiet" looks for false alarms (30)')
        .option('--cuts <n>', 'power cuts of each case of "failover" (10)'),
    run: async (call) => {
      const { bench } = await import('../bench/run.ts');
      const [minutes, cuts] = [number(call, 'minutes', Number.NaN), number(call, 'cuts', Number.NaN)];
      return bench({
        names: call.args,
        json: flag(call, 'json'),
        ...(minutes > 0 ? { minutes } : {}),
        ...(cuts > 0 ? { cuts } : {}),
      });
    },
  },
];
