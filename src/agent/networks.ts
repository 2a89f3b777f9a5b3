/**
 * Networks of one host. Bridges that the site has are looked at, never touched. For a NAT network we make a bridge with
 * the gateway's address and rules in our own nftables table; both go when the network is assigned no more.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AssignedNetwork } from '../core/model/assignment.ts';
import type { Uuid } from '../core/model/resource.ts';
import { exec, run } from './exec.ts';
import { checkBridgeName, checkCidr, natTable, tableName } from './nft.ts';
import type { HostNetworks } from './ports.ts';

/** Marks a bridge as made by us (the link's alias). */
const aliasPrefix = 'virga:';

interface BridgeLink {
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  /** The network's id, where we made it. */
  readonly ours?: string;
}

export function hostNetworks(dataDir: string): HostNetworks {
  let applied: string | undefined;
  return {
    async converge(networks) {
      const links = await bridges();
      const problems = new Map<Uuid, string | undefined>();
      for (const network of networks) problems.set(network.id, await convergeOne(network, links));
      const wanted = new Set(networks.filter((network) => network.mode === 'nat').map((network) => network.id));
      for (const link of links) if (link.ours !== undefined && !wanted.has(link.ours)) await removeBridge(link);
      const nat = networks.filter((network) => network.mode === 'nat' && problems.get(network.id) === undefined);
      applied = await applyTable(dataDir, nat, applied).catch((error: unknown) => {
        const message = error instanceof Error ? error.message : String(error);
        for (const network of nat) problems.set(network.id, message);
        return undefined;
      });
      return problems;
    },
  };
}

/** Names of the host's bridges, for placement. */
export async function bridgeNames(): Promise<readonly string[]> {
  return (await bridges()).map((link) => link.name).sort();
}

async function bridges(): Promise<readonly BridgeLink[]> {
  const parsed: unknown = JSON.parse((await run('ip', ['-j', 'link', 'show', 'type', 'bridge'])) || '[]');
  const rows: readonly unknown[] = Array.isArray(parsed) ? parsed : [];
  return rows.flatMap((row) => {
    const link = row as { ifname?: unknown; flags?: unknown; mtu?: unknown; ifalias?: unknown };
    if (typeof link.ifname !== 'string') return [];
    const flags: readonly unknown[] = Array.isArray(link.flags) ? link.flags : [];
    const alias = typeof link.ifalias === 'string' ? link.ifalias : '';
    const ours = alias.startsWith(aliasPrefix) ? { ours: alias.slice(aliasPrefix.length) } : {};
    return [{ name: link.ifname, up: flags.includes('UP'), mtu: Number(link.mtu ?? 0), ...ours }];
  });
}

async function convergeOne(network: AssignedNetwork, links: readonly BridgeLink[]): Promise<string | undefined> {
  try {
    const link = links.find((each) => each.name === network.bridge);
    return network.mode === 'bridge' ? checkExisting(network, link) : await makeNat(network, link);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function checkExisting(network: AssignedNetwork, link: BridgeLink | undefined): string | undefined {
  if (!link) return `there is no bridge "${network.bridge}" on this host`;
  if (!link.up) return `the bridge "${network.bridge}" is down`;
  if (network.mtu !== undefined && link.mtu > 0 && network.mtu > link.mtu)
    return `the bridge "${network.bridge}" carries ${link.mtu} bytes, the network ${network.mtu}`;
  return undefined;
}

async function makeNat(network: AssignedNetwork, link: BridgeLink | undefined): Promise<string | undefined> {
  const name = checkBridgeName(network.bridge);
  if (link && link.ours !== network.id) return `a bridge "${name}" exists already and is not Virga's`;
  if (!link) {
    await run('ip', ['link', 'add', 'name', name, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0']);
    await run('ip', ['link', 'set', 'dev', name, 'alias', `${aliasPrefix}${network.id}`]);
  }
  if (network.mtu !== undefined) await run('ip', ['link', 'set', 'dev', name, 'mtu', String(network.mtu)]);
  // The gateway is ours: it listens to no router, and bridged frames pass no other table.
  await setting(`/proc/sys/net/ipv6/conf/${name}/accept_ra`, '0');
  for (const each of ['nf_call_iptables', 'nf_call_ip6tables', 'nf_call_arptables'])
    await setting(`/sys/class/net/${name}/bridge/${each}`, '0');
  await run('ip', ['link', 'set', 'dev', name, 'up']);
  for (const [family, range] of [
    [4, network.ipv4],
    [6, network.ipv6],
  ] as const) {
    if (!range?.gateway) continue;
    const length = checkCidr(range.cidr, family).split('/')[1] ?? '';
    const address = `${range.gateway}/${length}`;
    const nodad = family === 6 ? ['nodad'] : [];
    await run('ip', [`-${family}`, 'address', 'replace', address, 'dev', name, ...nodad]);
    await forward(family);
  }
  return undefined;
}

/**
 * Lets the host pass packets on. It is not taken back: others may rely on it by then. With IPv6 a host that passes
 * packets on stops listening to routers, so links that listened are told to go on (accept_ra 2).
 */
async function forward(family: 4 | 6): Promise<void> {
  if (family === 4) return must('/proc/sys/net/ipv4/ip_forward', '1');
  const all = '/proc/sys/net/ipv6/conf/all/forwarding';
  if ((await readFile(all, 'utf8')).trim() === '1') return;
  for (const name of await readdir('/proc/sys/net/ipv6/conf')) {
    const path = `/proc/sys/net/ipv6/conf/${name}/accept_ra`;
    if ((await readFile(path, 'utf8').catch(() => '')).trim() === '1') await setting(path, '2');
  }
  await must(all, '1');
}

async function must(path: string, value: string): Promise<void> {
  if ((await readFile(path, 'utf8')).trim() !== value) await writeFile(path, value);
}

/** A setting that not every kernel has. */
async function setting(path: string, value: string): Promise<void> {
  await must(path, value).catch(() => undefined);
}

async function removeBridge(link: BridgeLink): Promise<void> {
  // A guest that still hangs on it keeps it: the next round tries again.
  const ports = await readdir(`/sys/class/net/${link.name}/brif`).catch(() => []);
  if (ports.length === 0) await run('ip', ['link', 'delete', 'dev', link.name, 'type', 'bridge']);
}

/** Applies the table when it changed or somebody flushed it. Returns what is applied now. */
async function applyTable(
  dataDir: string,
  nat: readonly AssignedNetwork[],
  applied: string | undefined,
): Promise<string | undefined> {
  if (nat.length === 0 && applied === undefined && !(await tableExists())) return undefined;
  const text = natTable(nat);
  if (text === applied && (nat.length === 0 || (await tableExists()))) return applied;
  const file = join(dataDir, 'networks.nft');
  await writeFile(file, text, { mode: 0o600 });
  await run('nft', ['-f', file]);
  return text;
}

async function tableExists(): Promise<boolean> {
  return (await exec('nft', ['list', 'table', 'inet', tableName])).code === 0;
}
