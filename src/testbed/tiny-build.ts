import { copyFile, chmod, mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { candidates, unpackPackages } from '../setup/apt.ts';
import { run } from '../setup/command.ts';
import { cpioArchive, type CpioEntry } from './cpio.ts';
import { guestFiles, kernelCommandLine, modulesFirst, modulesLater } from './tiny-files.ts';

const sector = 512;
const mebibyte = 1024 * 1024;
/** Where the partitions begin (sectors) and how large they are (MiB). */
const bootStart = 2048;
const bootMiB = 24;
const dataMiB = 64;

/** Where syslinux's boot sector for MBR disks is (package syslinux-common). */
const mbrCode = '/usr/lib/syslinux/mbr/mbr.bin';

export interface KernelPackage {
  readonly name: string;
  readonly version: string;
}

/** The kernel package that the distribution would give now; undefined when its lists do not know one. */
export async function kernelPackage(): Promise<KernelPackage | undefined> {
  const meta = (await candidates(['linux-image-cloud-amd64'])).get('linux-image-cloud-amd64');
  const name = meta?.depends.find((entry) => entry.startsWith('linux-image-'));
  return meta === undefined || name === undefined ? undefined : { name, version: meta.version };
}

/** Builds the image as `${dir}/tiny.qcow2`. `dir` must be new; what is only needed on the way is left in it. */
export async function buildTiny(kernel: KernelPackage, dir: string, say: (line: string) => void): Promise<string> {
  say(`fetching ${kernel.name}, busybox-static and qemu-guest-agent (unpacked only, not installed)`);
  const agent = await withLibraries('qemu-guest-agent');
  const root = await unpackPackages([kernel.name, 'busybox-static', ...agent], await made(dir, 'packages'));
  say('building the boot and data partitions');
  const boot = await bootPartition(root, dir);
  const data = await dataPartition(root, dir);
  const raw = join(dir, 'tiny.raw');
  await joinPartitions(raw, boot, data);
  const image = join(dir, 'tiny.qcow2');
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, image], { timeoutMs: 120_000 });
  return image;
}

async function made(parent: string, name: string): Promise<string> {
  const path = join(parent, name);
  await mkdir(path, { recursive: true });
  return path;
}

/** The package and the shared libraries it needs, found through the distribution's own dependencies. */
async function withLibraries(name: string): Promise<string[]> {
  const known = new Set([name]);
  let ask = [name];
  while (ask.length > 0) {
    const found = await candidates(ask);
    const needed = [...found.values()].flatMap((entry) => entry.depends).filter((entry) => /^lib[a-z0-9]/.test(entry));
    ask = [...new Set(needed)].filter((entry) => !known.has(entry));
    for (const entry of ask) known.add(entry);
  }
  return [...known];
}

/** FAT16 with syslinux, kernel and first file system. */
async function bootPartition(root: string, dir: string): Promise<string> {
  const kernel = (await run(['find', join(root, 'boot'), '-name', 'vmlinuz-*'])).trim().split('\n')[0] ?? '';
  if (kernel === '') throw new Error('the kernel package holds no boot/vmlinuz-*');
  const release = basename(kernel).slice('vmlinuz-'.length);
  const initrd = join(dir, 'initrd');
  await writeFile(initrd, gzipSync(cpioArchive(await firstFiles(root, release)), { level: 6 }));
  const config = join(dir, 'syslinux.cfg');
  await writeFile(
    config,
    `DEFAULT tiny\nPROMPT 0\nLABEL tiny\nLINUX vmlinuz\nINITRD initrd\nAPPEND ${kernelCommandLine}\n`,
  );
  const image = join(dir, 'boot.img');
  await writeFile(image, '');
  await truncate(image, bootMiB * mebibyte);
  const sectors = (bootMiB * mebibyte) / sector;
  await run([
    'mformat',
    '-i',
    image,
    '-v',
    'TINY',
    '-T',
    `${sectors}`,
    '-h',
    '64',
    '-s',
    '32',
    '-H',
    `${bootStart}`,
    '::',
  ]);
  for (const [from, to] of [
    [kernel, 'vmlinuz'],
    [initrd, 'initrd'],
    [config, 'syslinux.cfg'],
  ] as const) {
    await run(['mcopy', '-i', image, from, `::${to}`]);
  }
  await run(['syslinux', '-i', image]);
  return image;
}

async function firstFiles(root: string, release: string): Promise<CpioEntry[]> {
  const busybox = await readFile(join(root, 'bin/busybox'));
  const modules = new Map<string, string>();
  const first = await moduleOrder(root, release, modulesFirst, modules);
  const later = (await moduleOrder(root, release, modulesLater, modules)).filter((name) => !first.includes(name));
  const directories = [
    'bin',
    'sbin',
    'etc',
    'etc/acpi',
    'etc/acpi/PWRF',
    'lib',
    'lib/modules',
    'data',
    'dev',
    'proc',
    'sys',
  ];
  const entries: CpioEntry[] = [...directories, 'run', 'tmp', 'www', 'www/cgi-bin'].map((path) => ({
    path,
    kind: 'directory',
  }));
  entries.push({ path: 'bin/busybox', kind: 'file', mode: 0o755, content: busybox });
  const applets = (await run([join(root, 'bin/busybox'), '--list'])).trim().split('\n');
  for (const applet of applets) {
    if (applet !== 'busybox') entries.push({ path: `bin/${applet}`, kind: 'symlink', target: 'busybox' });
  }
  for (const applet of ['init', 'reboot', 'poweroff', 'halt']) {
    entries.push({ path: `sbin/${applet}`, kind: 'symlink', target: '../bin/busybox' });
  }
  for (const file of guestFiles) {
    entries.push({ path: file.path, kind: 'file', mode: file.mode, content: Buffer.from(file.text) });
  }
  entries.push({ path: 'lib/modules.first', kind: 'file', content: Buffer.from(`${first.join(' ')}\n`) });
  entries.push({ path: 'lib/modules.later', kind: 'file', content: Buffer.from(`${later.join(' ')}\n`) });
  for (const [name, path] of modules) {
    entries.push({ path: `lib/modules/${name}.ko`, kind: 'file', content: await readFile(path) });
  }
  return entries;
}

/**
 * Names of the modules and of what they need, in the order in which they can be loaded (a wrong order fails without
 * a word); `paths` collects where each is. What is built into the kernel is left out.
 */
async function moduleOrder(
  root: string,
  release: string,
  wanted: readonly string[],
  paths: Map<string, string>,
): Promise<string[]> {
  const base = join(root, 'lib/modules', release);
  const files = (await run(['find', base, '-name', '*.ko*'])).trim().split('\n');
  const byName = new Map(files.map((path) => [moduleName(path), path]));
  const builtIn = await readFile(join(base, 'modules.builtin'), 'utf8').catch(() => '');
  const builtInNames = new Set(builtIn.split('\n').filter(Boolean).map(moduleName));
  const order: string[] = [];
  const visit = async (name: string): Promise<void> => {
    if (order.includes(name) || builtInNames.has(name)) return;
    const path = byName.get(name);
    if (path === undefined) {
      // The random generator's module has another file name than its alias in some releases; HTTP does not need it.
      if ((modulesLater as readonly string[]).includes(name)) return;
      throw new Error(`kernel ${release} has no module ${name}`);
    }
    const needs = (await run(['modinfo', '-F', 'depends', path])).trim();
    for (const need of needs.split(',').filter(Boolean)) await visit(need.replaceAll('-', '_'));
    order.push(name);
    paths.set(name, path);
  };
  for (const name of wanted) await visit(name);
  return order;
}

function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko.*$/, '')
    .replaceAll('-', '_');
}

/** The partition that keeps what a guest writes; it also holds QEMU's guest agent, read only when it starts. */
async function dataPartition(root: string, dir: string): Promise<string> {
  const content = await made(dir, 'data');
  const target = await made(content, '.agent');
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((path) => join(root, path));
  const loader = join(root, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2');
  const program = join(root, 'usr/sbin/qemu-ga');
  const list = await run([loader, '--library-path', libraries.join(':'), '--list', program]);
  const used = [...list.matchAll(/=> (\/\S+)/g)].map((match) => match[1] ?? '');
  for (const path of used) {
    if (!path.startsWith(root)) throw new Error(`the guest agent needs ${path}, which no unpacked package holds`);
    await copyFile(path, join(target, basename(path)));
  }
  await copyFile(program, join(target, 'qemu-ga'));
  await copyFile(loader, join(target, 'ld.so'));
  await chmod(join(target, 'qemu-ga'), 0o755);
  const image = join(dir, 'data.img');
  await writeFile(image, '');
  await truncate(image, dataMiB * mebibyte);
  const settings = ['-b', '1024', '-J', 'size=1', '-m', '0', '-L', 'data', '-E', 'lazy_itable_init=0,root_owner=0:0'];
  await run(['mkfs.ext4', '-q', '-F', ...settings, '-d', content, image], { timeoutMs: 60_000 });
  return image;
}

async function joinPartitions(raw: string, boot: string, data: string): Promise<void> {
  const dataStart = bootStart + (bootMiB * mebibyte) / sector;
  const mbr = Buffer.alloc(sector);
  mbr.set((await readFile(mbrCode)).subarray(0, 440));
  partitionEntry(mbr, 0, 0x80, 0x0e, bootStart, (bootMiB * mebibyte) / sector);
  partitionEntry(mbr, 1, 0, 0x83, dataStart, (dataMiB * mebibyte) / sector);
  mbr.writeUInt16LE(0xaa55, 510);
  const file = await open(raw, 'wx');
  try {
    await file.truncate(dataStart * sector + dataMiB * mebibyte);
    await file.write(mbr, 0, sector, 0);
    await file.write(await readFile(boot), 0, undefined, bootStart * sector);
    await file.write(await readFile(data), 0, undefined, dataStart * sector);
  } finally {
    await file.close();
  }
}

/** One of the four entries of a master boot record; the old cylinder fields are filled as "see the sector fields". */
function partitionEntry(
  mbr: Buffer,
  index: number,
  active: number,
  type: number,
  start: number,
  sectors: number,
): void {
  const at = 446 + index * 16;
  mbr.set([active, 0xfe, 0xff, 0xff, type, 0xfe, 0xff, 0xff], at);
  mbr.writeUInt32LE(start, at + 8);
  mbr.writeUInt32LE(sectors, at + 12);
}
