/** What the host lease needs of this machine: freezing, punctual processes, steady clocks; and whether its parts answer. */
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { BootTime } from '../../effects/boottime.ts';
import { connectLines, doorSocket } from '../../effects/lines.ts';
import { installCommand, quietly } from './command.ts';
import type { Finding } from './finding.ts';

const text = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8').trim() : '');
const runFolders = '/run/virga/keeper';
const answerMs = 1500;
/** Sleep since boot that is worth a word, milliseconds: less is the clocks' own difference. */
const sleepNoticedMs = 1000;

export async function leaseFindings(): Promise<Finding[]> {
  return [freezing(), await punctual(), ...watchdogs(), ...clocks(), ...(await partsOfHosts())];
}

/** `cgroup.kill` came with Linux 5.14. */
function freezing(): Finding {
  const title = 'freezing guests';
  const mount = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((each) =>
    existsSync(join(each, 'cgroup.controllers')),
  );
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (mount === undefined)
    return {
      area: 'machine',
      title,
      state: 'warn',
      found: 'no cgroup v2 tree: no highly available guest runs here',
      todo: 'boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup/unified',
    };
  if (major < 5 || (major === 5 && minor < 14))
    return {
      area: 'machine',
      title,
      state: 'warn',
      found: `Linux ${release()} cannot end a whole control group: no highly available guest runs here`,
      todo: 'a kernel of 5.14 or later',
    };
  return { area: 'machine', title, state: 'ok', found: `cgroup v2 at ${mount}` };
}

async function punctual(): Promise<Finding> {
  const title = 'SCHED_FIFO';
  const { code } = await quietly('chrt', ['--fifo', '10', 'true']);
  if (code === 0) return { area: 'machine', title, state: 'ok', found: 'permitted: keeper and guard are punctual' };
  return {
    area: 'machine',
    title,
    state: 'warn',
    found:
      code === 127
        ? 'chrt is missing: keeper and guard run at nice -20'
        : 'refused: keeper and guard run at nice -20, and may be late by 50 ms and more on a busy host',
    todo:
      code === 127
        ? installCommand('util-linux', 'util-linux')
        : 'root, CAP_SYS_NICE, and no limit on real-time time (cpu.rt_runtime_us)',
  };
}

function watchdogs(): Finding[] {
  const title = 'hardware watchdog';
  const found = globSync('/sys/class/watchdog/watchdog*').map((path) => {
    const [name, timeout] = [text(join(path, 'identity')), text(join(path, 'timeout'))];
    return `${name === '' ? path : name}${timeout === '' ? '' : ` (${timeout} s)`}`;
  });
  if (found.length === 0)
    return [
      {
        area: 'machine',
        title,
        state: 'note',
        found: 'none: a guard that hangs is only behind the keeper',
        todo: 'switch it on in the firmware, or load its driver (modprobe iTCO_wdt, sp5100_tco, ipmi_watchdog …)',
      },
    ];
  return [
    {
      area: 'machine',
      title,
      state: 'note',
      found: `${found.join(', ')}; it could stand behind the guard`,
      todo: 'virga keeper run --watchdog /dev/watchdog, with its time as the bound of the lease profile',
    },
  ];
}

/** Share of processor time that an outer hypervisor gave to others since boot, percent (proc(5), /proc/stat). */
function stolenPercent(): number {
  const fields = (/^cpu +(.*)$/m.exec(text('/proc/stat'))?.[1] ?? '').split(' ').map(Number);
  const all = fields.slice(0, 8).reduce((sum, each) => sum + each, 0);
  return all === 0 ? 0 : ((fields[7] ?? 0) / all) * 100;
}

function clocks(): Finding[] {
  const findings: Finding[] = [];
  const sleptMs = new BootTime().sleptMs();
  if (sleptMs > sleepNoticedMs)
    findings.push({
      area: 'machine',
      title: 'sleep',
      state: 'warn',
      found: `this machine has slept ${Math.round(sleptMs / 1000)} s since it booted: its lease lapsed, and its guests may have moved`,
      todo: 'systemctl mask sleep.target suspend.target hibernate.target',
    });
  const available = text('/sys/devices/system/clocksource/clocksource0/available_clocksource');
  const current = text('/sys/devices/system/clocksource/clocksource0/current_clocksource');
  if (/constant_tsc/.test(text('/proc/cpuinfo')) && available !== '' && !/\btsc\b/.test(available))
    findings.push({
      area: 'machine',
      title: 'clocks that jump',
      state: 'warn',
      found: `the kernel has dropped tsc as unstable and uses ${current}; leases allow clocks to drift by 1 %`,
      todo: 'see the kernel log for why; a firmware update often helps',
    });
  const stolen = stolenPercent();
  if (stolen > 2)
    findings.push({
      area: 'machine',
      title: 'stolen time',
      state: 'warn',
      found: `an outer hypervisor kept ${stolen.toFixed(1)} % of the processors' time: whole machines that stall may lose their lease`,
      todo: 'reserve processors for this machine in the outer hypervisor',
    });
  return findings;
}

interface KeeperSays {
  readonly value?: {
    readonly session: { readonly number: number };
    readonly lease: { readonly state: string; readonly leftMs: number };
  };
}
interface GuardSays {
  readonly status?: { readonly policy: string; readonly lagMs: number; readonly watchdog: boolean };
}

/** Puts one question at a socket of ours; undefined: no answer in time. */
async function asked<T>(path: string, question: object): Promise<T | undefined> {
  if (!existsSync(path)) return undefined;
  return new Promise((done) => {
    const finish = (answer: T | undefined): void => {
      clearTimeout(timer);
      line.close();
      done(answer);
    };
    const timer = setTimeout(() => finish(undefined), answerMs);
    const line = connectLines(path, {
      retryMs: answerMs,
      refused: () => finish(undefined),
      open: (send) => send(question),
      line: (value) => finish(value as T),
    });
  });
}

async function partsOfHosts(): Promise<Finding[]> {
  // Only root may ask.
  const folders = process.getuid?.() === 0 && existsSync(runFolders) ? readdirSync(runFolders) : [];
  const all = await Promise.all(
    folders.map(async (name) => partsOf(join(runFolders, name), folders.length > 1 ? ` ${name}` : '')),
  );
  return all.flat();
}

async function partsOf(folder: string, suffix: string): Promise<Finding[]> {
  const [keeper, guard] = await Promise.all([
    asked<KeeperSays>(join(folder, doorSocket), { id: 1, ask: 'state' }),
    asked<GuardSays>(join(folder, 'guard.sock'), { status: true }),
  ]);
  const [title, guardTitle] = [`keeper${suffix}`, `guard${suffix}`];
  const view = keeper?.value;
  const status = guard?.status;
  const findings: Finding[] = [
    view
      ? {
          area: 'site',
          title,
          state: 'ok',
          found: `answers: session ${view.session.number}, lease ${view.lease.state}, ${Math.round(view.lease.leftMs)} ms left`,
        }
      : {
          area: 'site',
          title,
          state: 'warn',
          found: 'does not answer: highly available guests of this host freeze at the end of its lease',
          todo: 'systemctl restart virga-keeper, or virga keeper run; see its log',
        },
  ];
  if (status)
    findings.push({
      area: 'site',
      title: guardTitle,
      state: status.policy === 'fifo' ? 'ok' : 'warn',
      found: `answers: ${status.policy === 'fifo' ? 'SCHED_FIFO' : status.policy}, worst lag ${status.lagMs.toFixed(1)} ms${status.watchdog ? ', with its watchdog' : ''}`,
    });
  else if (existsSync(join(folder, 'guard.sock')))
    findings.push({
      area: 'site',
      title: guardTitle,
      state: 'warn',
      found: 'does not answer: this host gets no lease',
      todo: 'the keeper starts another one within 30 s; see keeper/guard.log below the agent’s data folder',
    });
  return findings;
}
