import { VirgaError } from '../errors.ts';
import type { GuestMachine } from '../model/guest.ts';
import type { EngineFacts, Host } from '../model/host.ts';
import { compareText } from '../util.ts';

/** What a person asked for; the rest is chosen. */
export interface MachineWish {
  readonly type?: string | undefined;
  readonly firmware?: 'bios' | 'uefi' | undefined;
  readonly cpuModel?: string | undefined;
}

/**
 * Named CPU models in order of preference. Nehalem is the oldest Intel model with everything of the x86-64-v2 level of
 * the psABI, which current distributions need; under emulation qemu64 is the model that every version offers.
 */
const models: Readonly<Record<'kvm' | 'emulated', Readonly<Record<string, readonly string[]>>>> = {
  kvm: { x86_64: ['x86-64-v2', 'Nehalem', 'qemu64'], aarch64: ['cortex-a57'] },
  emulated: { x86_64: ['qemu64', 'Nehalem'], aarch64: ['cortex-a57'] },
};

/**
 * Chooses what is pinned for the guest's life: the newest versioned machine type that the most hosts offer (all of
 * them, where there is one), and a named CPU model likewise. Only hosts that could take guests now are asked, or all
 * when none can. Undefined: no host has said what its engine offers.
 */
export function chooseMachine(hosts: readonly Host[], wish: MachineWish): GuestMachine | undefined {
  const able = hosts.filter((host) => host.status.state === 'online' && !host.spec.cordoned);
  const facts = enginesOf(able.length > 0 ? able : hosts);
  const arch = commonest(facts.map((each) => each.arch));
  if (arch === undefined) return undefined;
  const engines = facts.filter((each) => each.arch === arch);
  const type = wish.type ?? best(engines.map((each) => each.machines.filter(versioned)));
  if (type === undefined) return undefined;
  return { arch, type, firmware: wish.firmware ?? 'bios', cpuModel: modelFor(engines, arch, wish.cpuModel) };
}

function enginesOf(hosts: readonly Host[]): readonly EngineFacts[] {
  return hosts.flatMap((host) => (host.status.engine ? [host.status.engine] : []));
}

function modelFor(engines: readonly EngineFacts[], arch: string, wish: string | undefined): string {
  if (wish !== undefined) {
    if (wish === 'host' || wish.startsWith('host-'))
      throw new VirgaError('invalid_request', {
        detail: `the CPU model must be a named one such as qemu64, not "${wish}": a guest must find the same CPU on every host`,
      });
    return wish;
  }
  const preferred = models[engines.every((each) => each.kvm) ? 'kvm' : 'emulated'][arch] ?? [];
  const told = engines.filter((each) => each.cpuModels.length > 0);
  // A host that lists none may offer any: then the model that every version has.
  const common =
    told.length === 0 ? undefined : preferred.find((model) => told.every((each) => each.cpuModels.includes(model)));
  return common ?? preferred.at(-1) ?? commonest(told.flatMap((each) => each.cpuModels)) ?? 'qemu64';
}

function versioned(type: string): boolean {
  return /-\d+(\.\d+)*$/.test(type);
}

/** The one that most offer; of those, q35 (PCI Express) before the older board, then the newest, then by name. */
function best(offers: readonly (readonly string[])[]): string | undefined {
  const tally = counted(offers.flatMap((each) => [...new Set(each)]));
  return [...tally]
    .toSorted(
      ([a, many], [b, more]) => more - many || board(b) - board(a) || -compareVersions(a, b) || compareText(a, b),
    )
    .at(0)?.[0];
}

function board(type: string): number {
  return type.includes('q35') || type.startsWith('virt-') ? 1 : 0;
}

function compareVersions(a: string, b: string): number {
  const left = numbers(a);
  const right = numbers(b);
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbers(type: string): readonly number[] {
  return (/-(\d+(?:\.\d+)*)$/.exec(type)?.[1] ?? '').split('.').map(Number);
}

function commonest(values: readonly string[]): string | undefined {
  return [...counted(values)].toSorted(([a, many], [b, more]) => more - many || compareText(a, b)).at(0)?.[0];
}

function counted(values: readonly string[]): ReadonlyMap<string, number> {
  const tally = new Map<string, number>();
  for (const value of values) tally.set(value, (tally.get(value) ?? 0) + 1);
  return tally;
}
