/** `virga doctor`: what this machine has and lacks, and what to do. Looks only; changes nothing. */
import { emulatorFindings, libvirtFindings, libvirtGuestsFindings } from './engine.ts';
import type { Finding, Probe } from './finding.ts';
import { leaseFindings } from './lease.ts';
import { kernelModuleFindings, kvmFindings, machineFindings } from './machine.ts';
import {
  confinementFindings,
  networkFindings,
  postgresFindings,
  sandboxFindings,
  spaceFindings,
  toolFindings,
} from './site.ts';

export type { Finding } from './finding.ts';

const probes: readonly (readonly [string, Probe])[] = [
  ['machine', machineFindings],
  ['lease', leaseFindings],
  ['kernel', kernelModuleFindings],
  ['KVM', kvmFindings],
  ['libvirt', libvirtFindings],
  ['QEMU', emulatorFindings],
  ['libvirt-guests', libvirtGuestsFindings],
  ['tools', toolFindings],
  ['PostgreSQL', postgresFindings],
  ['sandbox', sandboxFindings],
  ['confinement', confinementFindings],
  ['network', networkFindings],
  ['space', () => spaceFindings()],
];

/** Asks every probe; one that breaks becomes a finding of its own instead of hiding the others. */
export async function examine(): Promise<readonly Finding[]> {
  const answers = await Promise.all(
    probes.map(async ([name, probe]): Promise<Finding[]> => {
      try {
        return await probe();
      } catch (error) {
        const found = error instanceof Error ? error.message : String(error);
        return [{ area: 'machine', title: name, state: 'warn', found: `could not be looked at: ${found}` }];
      }
    }),
  );
  return answers.flat();
}

const marks = { ok: ['ok', 32], note: ['note', 36], warn: ['warn', 33], fail: ['FAIL', 31] } as const;

/** The findings as a table; colour only where the caller says that it is a terminal. */
export function table(findings: readonly Finding[], colour: boolean): string {
  const width = Math.max(...findings.map((each) => each.title.length));
  return findings
    .map((each) => {
      const [word, code] = marks[each.state];
      const mark = colour ? `\u001B[${code}m${word.padEnd(4)}\u001B[0m` : word.padEnd(4);
      const todo = each.todo === undefined ? '' : `\n${' '.repeat(width + 8)}→ ${each.todo}`;
      return `${mark}  ${each.title.padEnd(width)}  ${each.found}${todo}`;
    })
    .join('\n');
}
