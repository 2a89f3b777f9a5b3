import type { Guest } from '../model/guest.ts';
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { compareText } from '../util.ts';
import { misfit, shapeOf } from './fit.ts';
import { Placer } from './placer.ts';
import { loadAfter } from './score.ts';

export interface HostVerdict {
  readonly hostId: Uuid;
  readonly host: string;
  /** The guest is here. */
  readonly chosen: boolean;
  /** It could be here, as things are now. */
  readonly fits: boolean;
  readonly sentence: string;
}

export interface Explanation {
  /** Where it is and why; absent: nowhere. */
  readonly placed?: { readonly host: string; readonly reasons: readonly string[] };
  /** The host it is on first, then those that fit (least loaded first), then the others. */
  readonly hosts: readonly HostVerdict[];
}

/** Why a guest is where it is, or why it is nowhere: every host judged on what is true now, the guest itself left out. */
export function explain(snapshot: Snapshot, guest: Guest): Explanation {
  const { placement } = guest.status;
  const shape = shapeOf(snapshot, guest);
  const judged = new Placer(snapshot, guest.id).slots.map((slot) => {
    const reason = misfit(slot, shape);
    const { cpu, memory } = loadAfter(slot, shape);
    const fitting = `fits: with it ${Math.round(memory * 100)} % of memory and ${Math.round(cpu * 100)} % of CPUs are promised`;
    const verdict: HostVerdict = {
      hostId: slot.host.id,
      host: slot.host.name,
      chosen: slot.host.id === placement?.hostId,
      fits: !reason,
      sentence: reason ? reason.sentence : fitting,
    };
    return { verdict, rank: reason ? 2 : Math.max(cpu, memory) };
  });
  judged.sort(
    (a, b) =>
      Number(b.verdict.chosen) - Number(a.verdict.chosen) ||
      a.rank - b.rank ||
      compareText(a.verdict.host, b.verdict.host),
  );
  const host = placement && snapshot.get('host', placement.hostId);
  return {
    ...(placement ? { placed: { host: host?.name ?? placement.hostId, reasons: placement.reasons } } : {}),
    hosts: judged.map((each) => each.verdict),
  };
}
