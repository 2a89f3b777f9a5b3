/** Ids as names: guests speak of hosts, images and networks by id. */
import type { Client } from '../api/client.ts';
import { listAll } from './lists.ts';

export interface Names {
  readonly host: (id: string | undefined) => string;
  readonly image: (id: string | undefined) => string;
  readonly network: (id: string | undefined) => string;
}

const lookup =
  (items: readonly { readonly id: string; readonly name: string }[]) =>
  (id: string | undefined): string => {
    if (id === undefined) return '-';
    return byId(items).get(id) ?? id.slice(0, 8);
  };

const maps = new WeakMap<object, Map<string, string>>();
function byId(items: readonly { readonly id: string; readonly name: string }[]): Map<string, string> {
  let map = maps.get(items);
  if (!map) {
    map = new Map(items.map((each) => [each.id, each.name]));
    maps.set(items, map);
  }
  return map;
}

export async function readNames(client: Client, signal: AbortSignal): Promise<Names> {
  const [hosts, images, networks] = await Promise.all([
    listAll(client, 'host.list', {}, signal),
    listAll(client, 'image.list', {}, signal),
    listAll(client, 'network.list', {}, signal),
  ]);
  return { host: lookup(hosts.items), image: lookup(images.items), network: lookup(networks.items) };
}
