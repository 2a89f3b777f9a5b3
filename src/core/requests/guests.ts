import { isHa } from '../ha/eligible.ts';
import { VirgaError } from '../errors.ts';
import { placed, described } from '../guest-orders.ts';
import type { Guest } from '../model/guest.ts';
import type { Instant } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { Addresses } from '../net/allocate.ts';
import type { Shape } from '../place/fit.ts';
import { networkNeeds } from '../place/fit.ts';
import { Placer } from '../place/placer.ts';
import { count } from '../util.ts';
import { checkFreeName, checkName, checkWhole, invalid, limits, newMeta } from './check.ts';
import type { GuestPlan } from './guest-spec.ts';
import { planGuest } from './guest-spec.ts';
import type { RunGuestInput } from './inputs.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange } from './result.ts';

export interface RunResult extends RequestResult {
  /** Guests that were asked for and do not fit; only with `partial`. */
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * Creates guests, each with its place: a guest is accepted only when a host has room for it. All or nothing; with
 * `partial` as many as fit, and the result names the others. Errors: what is wrong with the input, `no_hosts`,
 * `no_placement` with the hosts' reasons, `address_range_full`.
 */
export function runGuests(snapshot: Snapshot, input: RunGuestInput, context: RequestContext): RunResult {
  mayChange(context, undefined, 'run guests');
  const number = input.count ?? 1;
  checkWhole('the count', number, 1, limits.guestsAtOnce);
  if (number > 1 && input.addresses && Object.keys(input.addresses).length > 0)
    throw invalid('fixed addresses are possible for one guest only, not with a count');
  const plan = planGuest(snapshot, input);
  const names = namesFor(snapshot, input, plan, number);
  const maker = new Maker(snapshot, plan, input, context);
  const refused: { name: string; reason: string }[] = [];
  for (const name of names) {
    const reason = maker.make(name);
    if (reason !== undefined) refused.push({ name, reason });
  }
  if (refused[0] && (input.partial !== true || refused.length === names.length))
    throw maker.full ?? noPlacement(names, refused.length, refused[0].reason);
  return { ...maker.draft.finish(), refused };
}

function noPlacement(names: readonly string[], refused: number, reasons: string): VirgaError {
  const first = names[0] ?? '';
  const what = names.length === 1 ? `the guest "${first}"` : `${refused} of the ${count(names.length, 'guest')}`;
  return new VirgaError('no_placement', { what, reasons });
}

/** NAME; NAME-1 … NAME-N with a count; without a name the image's name and the lowest free numbers. */
function namesFor(snapshot: Snapshot, input: RunGuestInput, plan: GuestPlan, number: number): readonly string[] {
  if (input.name === undefined) return freeNames(snapshot, plan.image.name, number);
  checkName('guest', input.name);
  const stem = input.name;
  const names =
    input.count === undefined ? [stem] : Array.from({ length: number }, (_, index) => `${stem}-${index + 1}`);
  for (const name of names) checkFreeName(snapshot, 'guest', name);
  return names;
}

function freeNames(snapshot: Snapshot, image: string, number: number): readonly string[] {
  const stem = image.slice(0, 56).replace(/-+$/, '');
  const names: string[] = [];
  for (let index = 1; names.length < number; index += 1) {
    const name = `${stem}-${index}`;
    if (!snapshot.byName('guest', name)) names.push(name);
  }
  return names;
}

class Maker {
  readonly draft: Draft;
  /** The range that had no address left, if that is what stood in the way. */
  full: VirgaError | undefined;
  readonly #snapshot: Snapshot;
  readonly #plan: GuestPlan;
  readonly #input: RunGuestInput;
  readonly #context: RequestContext;
  readonly #placer: Placer;
  readonly #addresses: Addresses;
  readonly #shape: Shape;

  constructor(snapshot: Snapshot, plan: GuestPlan, input: RunGuestInput, context: RequestContext) {
    this.draft = new Draft(context);
    this.#snapshot = snapshot;
    this.#plan = plan;
    this.#input = input;
    this.#context = context;
    this.#placer = new Placer(snapshot);
    this.#addresses = new Addresses(snapshot, context.uuid);
    const { spec, networks } = plan;
    const { cpus, memoryMiB, diskMiB, machine, hostId, preferredHosts } = spec;
    this.#shape = {
      cpus,
      memoryMiB,
      diskMiB,
      machine,
      hostId,
      ha: isHa({ spec: { ...spec, nics: [] } }),
      preferred: preferredHosts,
      networks: networkNeeds(
        snapshot,
        networks.map((network) => network.id),
      ),
    };
    this.draft.reads(plan.image);
    for (const network of networks) this.draft.reads(network);
  }

  /** Undefined: made and placed. Otherwise why not. */
  make(name: string): string | undefined {
    const nics = this.#nics();
    if (!nics) return this.full?.message ?? 'no address';
    const place = this.#placer.place(this.#shape);
    if (!place) return this.#placer.refusal(this.#shape).summary;
    const { now, uuid } = this.#context;
    const bare = newGuest(newMeta(this.#context, uuid(), name, this.#input), { ...this.#plan.spec, nics }, now);
    const { host, reasons } = place;
    const guest = described(placed(bare, host, reasons, this.#snapshot.site.epoch, now), host, now);
    this.draft.create(guest);
    this.draft.event(guest, {
      type: 'guest.created',
      message: `${name} was created from image ${this.#plan.image.name} and placed on ${host.name}`,
      cause: reasons[0] ?? '',
      evidence: {
        host: host.name,
        image: this.#plan.image.name,
        cpus: guest.spec.cpus,
        memoryMiB: guest.spec.memoryMiB,
      },
    });
    return undefined;
  }

  #nics(): Guest['spec']['nics'] | undefined {
    if (this.full) return undefined;
    try {
      return this.#plan.networks.map((network) => this.#addresses.nic(network, this.#plan.fixed.get(network.id)));
    } catch (error) {
      if (!(error instanceof VirgaError) || error.code !== 'address_range_full') throw error;
      this.full = error;
      return undefined;
    }
  }
}

/** A guest that is nowhere yet. */
export function newGuest(meta: ReturnType<typeof newMeta>, spec: Guest['spec'], now: Instant): Guest {
  return {
    ...meta,
    kind: 'guest',
    spec,
    status: { state: spec.power === 'on' ? 'pending' : 'stopped', stateAt: now, lastGeneration: 0 },
  };
}
