/** How a simulated site comes to be: requests that a person would make, answered before time goes on. */
import type { Uuid } from '../core/model/resource.ts';
import { beginImage, imageReady, imageReceived } from '../core/requests/images.ts';
import { changeHost, joinHost } from '../core/requests/hosts.ts';
import type { SiteChange } from '../core/requests/inputs.ts';
import { createNetwork } from '../core/requests/networks.ts';
import { changeSite } from '../core/requests/site.ts';
import { createInvite } from '../core/requests/tokens.ts';
import { epochAt } from './time.ts';
import type { World } from './world.ts';

export const imageDigest = 'a'.repeat(128);

export async function joinMachine(world: World, name: string, id: Uuid, role: 'host' | 'witness'): Promise<void> {
  await world.must(
    world.ask((snapshot, context) =>
      createInvite(snapshot, { hostName: name, ...(role === 'witness' ? { role } : {}) }, id, context),
    ),
  );
  const certificate = { serial: '1', expiresAt: epochAt * 2 };
  const keeper = role === 'witness' ? { keeper: keeperFacts(world, name) } : {};
  const join = { id, secretHash: id, hostName: name, agentVersion: 'sim', protocol: 1, certificate, ...keeper };
  await world.must(world.ask((snapshot, context) => joinHost(snapshot, join, context)));
}

/** What a witness says when it joins; it has no agent that would report it. */
function keeperFacts(world: World, name: string): { readonly diskId: Uuid; readonly addresses: readonly string[] } {
  const text = world.place(name).machine.keeperDisk.files.get('voter.json');
  if (text === undefined) throw new Error(`the keeper of ${name} did not start`);
  const { diskId } = JSON.parse(text) as { readonly diskId: Uuid };
  return { diskId, addresses: [`${name}:7444`] };
}

export async function setLease(world: World, lease: NonNullable<SiteChange['lease']>): Promise<void> {
  await world.must(world.ask((snapshot, context) => changeSite(snapshot, { lease }, context)));
}

export async function addNetwork(world: World): Promise<void> {
  const network = { name: 'lab', mode: 'bridge', bridge: 'br0', ipv4: { cidr: '10.9.0.0/16' } } as const;
  await world.must(world.ask((snapshot, context) => createNetwork(snapshot, network, context)));
}

export async function addImage(world: World): Promise<void> {
  const input = { name: 'tiny', format: 'qcow2', sizeBytes: 1024, sha512: imageDigest } as const;
  await world.must(world.ask((snapshot, context) => beginImage(snapshot, input, context)));
  const image = world.snapshot().byName('image', 'tiny');
  if (!image) throw new Error('the image was not written');
  await world.must(world.ask((snapshot, context) => imageReceived(snapshot, image.id, 1024, context)));
  const stored = { sha512: imageDigest, sizeBytes: 1024, format: 'qcow2' } as const;
  await world.must(
    world.ask((snapshot, context) =>
      imageReady(snapshot, image.id, { givenSha512: imageDigest, stored, virtualBytes: 1 << 30 }, context),
    ),
  );
}

export async function setCapacity(world: World, host: string, cpus: number, memoryMiB: number): Promise<void> {
  const reserved = { cpus: 0, memoryMiB: 0, diskMiB: 0 };
  await world.must(
    world.ask((snapshot, context) => changeHost(snapshot, host, { capacity: { cpus, memoryMiB }, reserved }, context)),
  );
}
