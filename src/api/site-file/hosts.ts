/** Hosts in a site file. */
import type { Body } from '../routes.ts';
import type { HostView } from '../schemas.ts';
import { changed, Differences, given, labelChange, some } from './compare.ts';
import type { Difference } from './plan.ts';
import { timeText } from './settings.ts';
import type { FenceEntry, HostEntry } from './types.ts';

export function hostDifferences(entry: HostEntry, host: HostView): Difference[] {
  const { spec } = host;
  const differences = new Differences();
  differences.labels(entry.labels, host.labels);
  differences.compare('cordoned', entry.cordoned?.toString(), String(spec.cordoned));
  if (entry.cordoned !== false && spec.cordoned)
    differences.compare('cordonReason', entry.cordonReason, spec.cordonReason);
  differences.number('reserved.cpus', entry.reserved?.cpus, spec.reserved.cpus);
  differences.size('reserved.memory', entry.reserved?.memory, spec.reserved.memoryMiB);
  differences.size('reserved.disk', entry.reserved?.disk, spec.reserved.diskMiB);
  differences.number('overcommit.cpu', entry.overcommit?.cpu, spec.overcommit.cpu);
  differences.number('overcommit.memory', entry.overcommit?.memory, spec.overcommit.memory);
  differences.number('capacity.cpus', entry.capacity?.cpus, spec.capacity?.cpus);
  differences.size('capacity.memory', entry.capacity?.memory, spec.capacity?.memoryMiB);
  differences.size('capacity.disk', entry.capacity?.disk, spec.capacity?.diskMiB);
  differences.list(
    'fence',
    entry.fence?.map(fenceText),
    (spec.fence ?? []).map((each) => fenceText(fenceEntry(each))),
  );
  return differences.found;
}

type FenceDevice = NonNullable<HostView['spec']['fence']>[number];

export const fenceEntry = ({ agent, parameters, delayMs }: FenceDevice): FenceEntry => ({
  agent,
  ...(Object.keys(parameters).length > 0 ? { parameters } : {}),
  ...(delayMs === undefined ? {} : { delay: delayMs }),
});

const fenceDevice = ({ agent, parameters, delay }: FenceEntry): FenceDevice => ({
  agent,
  parameters: { ...parameters },
  ...(delay === undefined ? {} : { delayMs: delay }),
});

/** The same text for the same device, in whatever order its parameters stand. */
function fenceText({ agent, parameters = {}, delay }: FenceEntry): string {
  const words = Object.entries(parameters)
    .map(([key, value]) => `${key}=${value}`)
    .sort();
  return [agent, ...words, ...(delay === undefined ? [] : [`delay=${timeText(delay)}`])].join(' ');
}

/** The request that makes it so. */
export function hostChange(entry: HostEntry, host: HostView): Body<'host.change'> {
  const { spec } = host;
  const { reserved, overcommit, capacity, fence } = entry;
  const fenceDiffers = fence !== undefined && hostDifferences({ fence }, host).length > 0;
  return given({
    labels: labelChange(entry.labels, host.labels),
    cordoned: changed(entry.cordoned, spec.cordoned),
    cordonReason: (entry.cordoned ?? spec.cordoned) ? changed(entry.cordonReason, spec.cordonReason) : undefined,
    reserved: some({
      cpus: changed(reserved?.cpus, spec.reserved.cpus),
      memoryMiB: changed(reserved?.memory, spec.reserved.memoryMiB),
      diskMiB: changed(reserved?.disk, spec.reserved.diskMiB),
    }),
    overcommit: some({
      cpu: changed(overcommit?.cpu, spec.overcommit.cpu),
      memory: changed(overcommit?.memory, spec.overcommit.memory),
    }),
    fence: fence && fenceDiffers ? fence.map(fenceDevice) : undefined,
    capacity: some({
      cpus: changed(capacity?.cpus, spec.capacity?.cpus),
      memoryMiB: changed(capacity?.memory, spec.capacity?.memoryMiB),
      diskMiB: changed(capacity?.disk, spec.capacity?.diskMiB),
    }),
  });
}
