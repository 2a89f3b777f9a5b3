/** Our one nftables table, as text. Addresses and names come checked from the network's model; they are checked again. */
import { isIP } from 'node:net';
import { VirgaError } from '../core/errors.ts';
import type { AssignedNetwork } from '../core/model/assignment.ts';

export const tableName = 'virga';

const namePattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;

/** @throws VirgaError `invalid_request` */
export function checkBridgeName(name: string): string {
  if (!namePattern.test(name)) throw new VirgaError('invalid_request', { detail: `"${name}" is not a bridge name` });
  return name;
}

/** @throws VirgaError `invalid_request` */
export function checkCidr(cidr: string, family: 4 | 6): string {
  const [address = '', length = ''] = cidr.split('/');
  const good = isIP(address) === family && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
  if (!good) throw new VirgaError('invalid_request', { detail: `"${cidr}" is not an IPv${family} subnet` });
  return cidr;
}

/**
 * Replaces our table whole, in one transaction; other tables are not named. Outgoing traffic of each network takes the
 * host's address; from outside nothing begins. The first line makes the deletion legal where there was no table.
 */
export function natTable(networks: readonly AssignedNetwork[]): string {
  const lines = [`table inet ${tableName}`, `delete table inet ${tableName}`];
  if (networks.length === 0) return `${lines.join('\n')}\n`;
  const nat = networks.flatMap(({ bridge, ipv4, ipv6 }) => {
    const name = checkBridgeName(bridge);
    return [
      ...(ipv4 ? [masquerade('ip', checkCidr(ipv4.cidr, 4), name)] : []),
      ...(ipv6 ? [masquerade('ip6', checkCidr(ipv6.cidr, 6), name)] : []),
    ];
  });
  const guard = networks.map(({ bridge }) => {
    const name = checkBridgeName(bridge);
    return `    oifname "${name}" iifname != "${name}" ct state new counter drop`;
  });
  return `${[
    ...lines,
    `table inet ${tableName} {`,
    '  chain nat_out {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    ...nat,
    '  }',
    '  chain nat_in {',
    '    type filter hook forward priority filter; policy accept;',
    ...guard,
    '  }',
    '}',
  ].join('\n')}\n`;
}

function masquerade(family: 'ip' | 'ip6', cidr: string, bridge: string): string {
  return `    ${family} saddr ${cidr} ${family} daddr != ${cidr} oifname != "${bridge}" counter masquerade`;
}
