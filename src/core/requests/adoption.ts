/** Taking over a domain that is not ours, and giving it back as it was. */
import { VirgaError } from '../errors.ts';
import { placed, reorder, described } from '../guest-orders.ts';
import type { AdoptedDomain, GuestMachine, GuestSpec } from '../model/guest.ts';
import type { ForeignDomain, Host } from '../model/host.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { utf8Bytes } from '../util.ts';
import { actOn, write } from './actions.ts';
import { checkFreeName, invalid, limits, newMeta } from './check.ts';
import { guestDefaults } from './guest-spec.ts';
import { newGuest } from './guests.ts';
import type { AdoptInput } from './inputs.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

/** What the agent read of the domain without touching it. */
export interface InspectedDomain extends AdoptedDomain {
  readonly name: string;
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** The foreign domain that is meant, before the agent is asked about it. */
export function findForeign(
  snapshot: Snapshot,
  input: Pick<AdoptInput, 'host' | 'domain'>,
): { readonly host: Host; readonly domain: ForeignDomain } {
  const host = resolve(snapshot, 'host', input.host);
  const found = host.status.foreign.filter((each) => each.uuid === input.domain || each.name === input.domain);
  const [domain] = found;
  if (!domain) throw new VirgaError('domain_not_found', { host: host.name, name: input.domain });
  if (found.length > 1) throw new VirgaError('ambiguous', { kind: 'domain', name: input.domain });
  return { host, domain };
}

/** The guest keeps the domain's UUID; it stays on its host for good, since its disks are there. */
export function adoptGuest(
  snapshot: Snapshot,
  input: AdoptInput,
  inspected: InspectedDomain,
  context: RequestContext,
): RequestResult {
  mayChange(context, undefined, 'adopt guests');
  const { host, domain } = findForeign(snapshot, input);
  if (host.status.state !== 'online') throw new VirgaError('host_unreachable', { name: host.name });
  if (snapshot.get('guest', domain.uuid)) throw invalid(`the domain ${domain.uuid} is a guest already`);
  if (utf8Bytes(inspected.xml) > limits.adoptedXmlBytes) throw invalid('its description is larger than 256 KiB');
  const name = input.name ?? inspected.name;
  checkFreeName(snapshot, 'guest', name);
  const { xml, persistent, autostart, cpus, memoryMiB } = inspected;
  const spec: GuestSpec = {
    cpus,
    maxCpus: cpus,
    memoryMiB,
    maxMemoryMiB: memoryMiB,
    diskMiB: 0,
    diskMode: 'keep',
    nics: [],
    sshKeys: [],
    restart: 'on-failure',
    hostId: host.id,
    power: domain.running ? 'on' : 'off',
    paused: false,
    graceSeconds: guestDefaults.graceSeconds,
    startSeq: 0,
    rebootSeq: 0,
    rebuildSeq: 0,
    snapshots: [],
    machine: machineOf(xml, host),
    adopted: { xml, persistent, autostart },
  };
  const bare = newGuest(newMeta(context, domain.uuid, name), spec, context.now);
  const reasons = [`adopted on ${host.name}, where its disks are`];
  const guest = described(placed(bare, host, reasons, snapshot.site.epoch, context.now), host, context.now);
  const draft = new Draft(context);
  draft.create(guest);
  draft.event(guest, {
    type: 'guest.adopted',
    message: `the domain ${inspected.name} on ${host.name} was adopted as ${name}`,
    evidence: { host: host.name, domain: inspected.name, uuid: domain.uuid },
  });
  return draft.finish();
}

/**
 * For the record only: an adopted domain is started from its own description, never from these. Three attributes are
 * looked at as text, since the core has no XML reader; what is not found is left open.
 */
function machineOf(xml: string, host: Host): GuestMachine {
  return {
    arch: /<type[^>]*\barch=["']([\w-]+)["']/.exec(xml)?.[1] ?? host.status.engine?.arch ?? 'unknown',
    type: /<type[^>]*\bmachine=["']([\w.-]+)["']/.exec(xml)?.[1] ?? 'unknown',
    firmware: /<os[^>]*\bfirmware=["']efi["']|<loader\b/.test(xml) ? 'uefi' : 'bios',
    cpuModel: /<cpu\b[^>]*>[^]*?<model[^>]*>([\w.-]+)<\/model>/.exec(xml)?.[1] ?? 'unknown',
  };
}

/** Gives an adopted domain back; it goes from Virga when the host reports that done. */
export function releaseGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const known = resolve(snapshot, 'guest', ref);
  if (known.spec.releasing === true) return nothing();
  const guest = actOn(snapshot, ref, 'release', context);
  if (!guest.spec.adopted) throw invalid(`${guest.name} was made by Virga, not adopted: delete it instead`);
  return write(snapshot, reorder(guest, { ...guest.spec, releasing: true }, snapshot.site.epoch), context, {
    type: 'guest.release',
    message: `${guest.name} is given back`,
  });
}
