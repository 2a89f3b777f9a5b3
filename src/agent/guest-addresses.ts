import type { GuestAddress } from '../core/model/guest.ts';
import type { Iface, LibvirtClient } from '../libvirt/index.ts';
import type { DomainView } from './engine-view.ts';

/** Milliseconds between two rounds of asking the guests' agents: rarely, since each may take seconds to answer. */
const everyMs = 30_000;
/** Bound of what one guest may claim. */
const maxAddresses = 32;

/** Asks the guest agents for their addresses, one guest at a time on the slow connection, until stopped. */
export function pollAddresses(client: LibvirtClient, view: DomainView, changed: () => void): { stop(): void } {
  let stopped = false;
  let busy = false;
  const round = async (): Promise<void> => {
    for (const uuid of view.withAgent()) {
      if (stopped || client.state.state !== 'up') return;
      try {
        const dom = await client.lookupByUuid(uuid);
        const args = { dom, source: 1 };
        const { ifaces } = await client.slow.call('domainInterfaceAddresses', args, { timeoutMs: 10_000 });
        view.setAddresses(uuid, addressesOf(ifaces));
      } catch {
        // An agent that does not answer says nothing; the last known addresses stay until it disconnects.
      }
    }
    changed();
  };
  const timer = setInterval(() => {
    if (busy || view.withAgent().length === 0) return;
    busy = true;
    void round().finally(() => {
      busy = false;
    });
  }, everyMs);
  timer.unref();
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };
}

/** What comes from inside the guest is not trusted: bounded, and only what looks like an address. */
export function addressesOf(ifaces: readonly Iface[]): readonly GuestAddress[] {
  return ifaces
    .filter((iface) => iface.name !== 'lo')
    .flatMap((iface) =>
      iface.addrs.map(({ type, addr }): GuestAddress => {
        const family = type === 1 ? 6 : 4;
        return { source: 'agent', family, address: addr.slice(0, 45), interface: iface.name.slice(0, 32) };
      }),
    )
    .filter(({ address }) => /^[0-9a-fA-F.:]+$/.test(address))
    .slice(0, maxAddresses);
}
