import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { run } from '../../../src/setup/command.ts';
import { addressPlan, guestAddress, tinyImage, tinySeed, type TestbedHost } from '../../../src/testbed/index.ts';

export interface StartedGuest {
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly disk: string;
}

/** Domain XML of a tiny guest as an agent would write it: emulated, two virtio disks, serial console to a pty. */
function domainXml(name: string, disk: string, seed: string, mac: string, log: string): string {
  return `<domain type='qemu'>
  <name>${name}</name><memory unit='MiB'>512</memory><currentMemory unit='MiB'>128</currentMemory><vcpu current='1'>2</vcpu>
  <os><type machine='q35'>hvm</type></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>16</tb-cache></tcg></features>
  <cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='writeback'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${seed}'/><target dev='vdb' bus='virtio'/><readonly/></disk>
    <interface type='bridge'><source bridge='br0'/><mac address='${mac}'/><model type='virtio'/></interface>
    <serial type='pty'><log file='${log}' append='on'/><target port='0'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'/>
  </devices>
</domain>`;
}

/** Makes overlay, seed and domain of guest number `index` on the host and starts it with virsh. */
export async function startGuest(
  host: TestbedHost,
  name: string,
  index: number,
  options: { readonly version?: 1 | 2; readonly userData?: string } = {},
): Promise<StartedGuest> {
  const image = await tinyImage();
  const { address, address6, mac } = guestAddress(index);
  const disk = join(host.dir, `${name}.qcow2`);
  const seed = join(host.dir, `${name}.iso`);
  await run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image.path, disk]);
  const { gateway } = addressPlan;
  const networkConfig =
    options.version === 1
      ? `version: 1\nconfig:\n- type: physical\n  name: eth0\n  mac_address: "${mac}"\n  mtu: 1400\n  subnets:\n  - type: static\n    address: ${address}\n    netmask: 255.255.252.0\n    gateway: ${gateway}\n  - {type: static6, address: "${address6}/64"}\n`
      : `version: 2\nethernets:\n  nic0:\n    match:\n      macaddress: "${mac}"\n    mtu: 1400\n    addresses: ["${address}/22", "${address6}/64"]\n    routes:\n      - to: default\n        via: ${gateway}\n    nameservers:\n      addresses: [${gateway}]\n`;
  await tinySeed(seed, {
    metaData: `instance-id: ${name}-1\nlocal-hostname: ${name}\n`,
    networkConfig,
    ...(options.userData === undefined ? {} : { userData: options.userData }),
  });
  const xml = join(host.dir, `${name}.xml`);
  await writeFile(xml, domainXml(name, disk, seed, mac, join(host.dir, `${name}.log`)));
  await host.run(['virsh', 'create', xml], { timeoutMs: 60_000 });
  return { name, address, address6, disk };
}
