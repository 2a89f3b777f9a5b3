import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { complaint, describe as describeMissing } from '../../../src/setup/install.ts';
import { byHand, required, requirements, unmet } from '../../../src/setup/requirements.ts';
import { operatingSystem } from '../../../src/setup/system.ts';

test('a machine that has everything lacks nothing, and one package less is what it lacks', () => {
  const needed = required(['controller', 'agent', 'testbed'], 'x64');
  const all = new Set(needed.map((entry) => entry.package));
  assert.deepEqual(unmet(needed, all), []);
  all.delete('xorriso');
  assert.deepEqual(
    unmet(needed, all).map((entry) => entry.package),
    ['xorriso'],
  );
});

test('a versioned PostgreSQL server does as well as the metapackage, its client does not', () => {
  const needed = required(['controller'], 'x64').filter((entry) => entry.package === 'postgresql');
  assert.equal(needed.length, 1);
  assert.deepEqual(unmet(needed, new Set(['postgresql-15'])), []);
  assert.equal(unmet(needed, new Set(['postgresql-client-15', 'postgresql-common'])).length, 1);
});

test('purposes and architectures decide what is needed', () => {
  const names = (purposes: Parameters<typeof required>[0], arch: string): string[] =>
    required(purposes, arch).map((entry) => entry.package);
  assert.ok(!names(['controller'], 'x64').includes('libvirt-daemon-system'));
  assert.ok(!names(['agent'], 'x64').includes('postgresql'));
  assert.ok(names(['agent'], 'arm64').includes('qemu-system-arm'));
  assert.ok(!names(['agent'], 'arm64').includes('qemu-system-x86'));
  assert.ok(names(['testbed'], 'x64').includes('syslinux'));
  assert.equal(new Set(requirements.map((entry) => entry.package)).size, requirements.length, 'no package twice');
});

test('by hand: names of the RHEL family, and each reason is shown', () => {
  const needed = required(['controller', 'agent'], 'x64');
  const words = byHand('rhel', needed);
  assert.match(words, /^install them by hand: dnf install /);
  for (const name of ['postgresql-server', 'qemu-kvm', 'edk2-ovmf', 'libvirt'])
    assert.ok(words.split(' ').includes(name), name);
  assert.ok(!words.includes('libvirt-daemon-system'));
  assert.match(byHand('other', needed), /names of Debian/);
  for (const entry of needed)
    assert.ok(
      describeMissing(needed).some((line) => line.includes(entry.why)),
      entry.why,
    );
});

test('the system’s family comes from os-release, its relatives included', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'virga-os-'));
  try {
    const file = join(dir, 'os-release');
    const family = async (text: string): Promise<string> => {
      await writeFile(file, text);
      return operatingSystem(file).family;
    };
    assert.equal(await family('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'), 'debian');
    assert.equal(operatingSystem(file).name, 'Debian GNU/Linux 12 (bookworm)');
    assert.equal(await family('ID=linuxmint\nID_LIKE="ubuntu debian"\n'), 'debian');
    assert.equal(await family('ID="almalinux"\nID_LIKE="rhel centos fedora"\n'), 'rhel');
    assert.equal(await family('ID=arch\n'), 'other');
    assert.equal(operatingSystem(join(dir, 'none')).family, 'other');
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('apt’s own reasons are picked out of what it says', () => {
  const output = 'Reading package lists...\nBuilding dependency tree...\nE: Unable to locate package nosuch\n';
  assert.equal(complaint(output), 'E: Unable to locate package nosuch');
  assert.equal(complaint('something else\nlast words\n'), 'something else\nlast words');
});
