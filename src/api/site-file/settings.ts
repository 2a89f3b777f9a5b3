/** The site as a whole in a site file. */
import type { Body } from '../routes.ts';
import type { SiteSettingsView } from '../schemas.ts';
import { changed, Differences, some } from './compare.ts';
import type { Difference } from './plan.ts';
import type { SettingsEntry } from './types.ts';

/** Milliseconds as a site file writes them: `500ms`, `2s`; reads back exactly. */
export const timeText = (ms: number): string => (ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`);
const timeOf = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : timeText(ms));

export function settingsDifferences(entry: SettingsEntry, site: SiteSettingsView): Difference[] {
  const differences = new Differences();
  const { lease } = entry;
  differences.compare('lease.profile', lease?.profile, site.leaseProfile);
  differences.compare('lease.length', timeOf(lease?.length), timeText(site.lease.lengthMs));
  differences.compare('lease.bound', timeOf(lease?.bound), timeText(site.lease.boundMs));
  differences.number('lease.drift', lease?.drift, site.lease.drift);
  differences.compare('onHostLeave', entry.onHostLeave, site.onHostLeave);
  differences.number('lapseGrace', entry.lapseGrace, site.lapseGraceSeconds);
  return differences.found;
}

/** The request that makes it so. */
export function settingsChange(entry: SettingsEntry, site: SiteSettingsView): Body<'site.set'> {
  const { profile, length, bound, drift } = entry.lease ?? {};
  const lease =
    profile === undefined
      ? some({
          lengthMs: changed(length, site.lease.lengthMs),
          boundMs: changed(bound, site.lease.boundMs),
          drift: changed(drift, site.lease.drift),
        })
      : changed<'default' | 'fast' | 'own'>(profile, site.leaseProfile);
  return (
    some({
      lease: lease === 'own' ? undefined : lease,
      onHostLeave: changed(entry.onHostLeave, site.onHostLeave),
      lapseGraceSeconds: changed(entry.lapseGrace, site.lapseGraceSeconds),
    }) ?? {}
  );
}
