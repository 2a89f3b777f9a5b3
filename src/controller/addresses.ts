/** Where agents and clients reach this controller. */
import type { AddressInfo } from 'node:net';
import { ownNames } from './ca.ts';

export interface AddressOptions {
  /** Given by a person; wins over everything. */
  readonly agentUrls?: readonly string[] | undefined;
  readonly names?: readonly string[] | undefined;
}

/** `https://` addresses, from the listeners and what is known of this machine's names. */
export function ownUrls({ agentUrls, names }: AddressOptions, listeners: readonly AddressInfo[]): readonly string[] {
  if (agentUrls) return agentUrls;
  return listeners.flatMap(({ address, port, family }) => {
    const every = address === '::' || address === '0.0.0.0';
    const hosts = names && names.length > 0 ? names : every ? ownNames().slice(1) : [address];
    const usable = hosts.filter((each) => !every || !/^(127\.|::1$|fe80:)/.test(each));
    return usable.map((each) => `https://${each.includes(':') && family === 'IPv6' ? `[${each}]` : each}:${port}`);
  });
}
