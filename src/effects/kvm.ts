/**
 * Whether KVM really works. A `/dev/kvm` that exists proves little: in some virtual machines it starts guests whose
 * kernels then hang for ever, and even the firmware's first lines appear. So three things are asked, each within the
 * same five seconds: does the processor offer hardware virtualization, does firmware run, and, where this machine's own
 * kernel can be read, does a kernel boot to its first lines.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

export interface KvmVerdict {
  readonly works: boolean;
  /** One sentence for people. */
  readonly why: string;
  /** Milliseconds that the trial took; absent when none was needed. */
  readonly trialMs?: number;
}

/** Emulators by the paths of the Debian and the RHEL families. */
export const emulatorPaths: Readonly<Record<string, readonly string[]>> = {
  x86_64: ['/usr/bin/qemu-system-x86_64', '/usr/libexec/qemu-kvm', '/usr/bin/qemu-kvm'],
  aarch64: ['/usr/bin/qemu-system-aarch64', '/usr/libexec/qemu-kvm', '/usr/bin/qemu-kvm'],
};

export function findEmulator(arch: string): string | undefined {
  return (emulatorPaths[arch] ?? []).find((path) => existsSync(path));
}

/** Runs QEMU until its output shows `sign`, at most `limitMs`; kills it in any case. Output is bounded. */
async function untilSign(emulator: string, args: readonly string[], sign: string, limitMs: number): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(emulator, args, { stdio: ['ignore', 'pipe', 'ignore'], env: {} });
    let seen = '';
    let settled = false;
    const finish = (found: boolean): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      child.kill('SIGKILL');
      done(found);
    };
    const timer = setTimeout(() => finish(false), limitMs);
    child.stdout.on('data', (chunk: Buffer) => {
      seen = (seen + chunk.toString('latin1')).slice(-65_536);
      if (seen.includes(sign)) finish(true);
    });
    child.on('error', () => finish(false));
    child.on('exit', () => finish(seen.includes(sign)));
  });
}

function hardwareVirtualization(arch: string): boolean {
  if (arch !== 'x86_64') return true;
  return /\b(vmx|svm)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

function readableKernel(): string | undefined {
  const path = `/boot/vmlinuz-${release()}`;
  try {
    accessSync(path, constants.R_OK);
    return path;
  } catch {
    return undefined;
  }
}

/** The trial. Never throws; takes at most `limitMs` (five seconds). */
export async function tryKvm(arch: string, limitMs = 5_000): Promise<KvmVerdict> {
  if (!existsSync('/dev/kvm')) return { works: false, why: 'there is no /dev/kvm' };
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return { works: false, why: '/dev/kvm may not be opened by this user' };
  }
  const emulator = findEmulator(arch);
  if (!emulator) return { works: false, why: `no QEMU for ${arch} is installed` };
  if (!hardwareVirtualization(arch))
    return {
      works: false,
      why: '/dev/kvm exists, but the processor offers no hardware virtualization (no vmx or svm)',
    };
  if (arch !== 'x86_64')
    return { works: true, why: '/dev/kvm exists and may be opened; no trial is known for this architecture' };
  const started = performance.now();
  const left = (): number => Math.max(1, limitMs - (performance.now() - started));
  const base = [
    '-accel',
    'kvm',
    '-M',
    'q35',
    '-m',
    '128',
    '-display',
    'none',
    '-nodefaults',
    '-no-user-config',
    '-no-reboot',
  ];
  const debugcon = ['-chardev', 'stdio,id=c', '-device', 'isa-debugcon,iobase=0x402,chardev=c'];
  if (!(await untilSign(emulator, [...base, ...debugcon], 'SeaBIOS', left())))
    return {
      works: false,
      why: `firmware did not run under KVM within ${limitMs / 1000} s`,
      trialMs: performance.now() - started,
    };
  const kernel = readableKernel();
  if (!kernel) return { works: true, why: 'firmware ran under KVM', trialMs: performance.now() - started };
  const boot = ['-kernel', kernel, '-append', 'console=ttyS0 earlyprintk=ttyS0 panic=-1', '-serial', 'stdio'];
  const ran = await untilSign(emulator, [...base, ...boot], 'Linux version', left());
  const trialMs = performance.now() - started;
  return ran
    ? { works: true, why: 'a kernel booted under KVM', trialMs }
    : { works: false, why: `a kernel hung under KVM (nothing within ${limitMs / 1000} s)`, trialMs };
}
