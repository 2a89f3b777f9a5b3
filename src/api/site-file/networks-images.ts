/** Networks and images in a site file. Neither can be changed once made: a difference means making it anew. */
import { VirgaError } from '../../core/errors.ts';
import { rangeFrom } from '../../core/net/range.ts';
import type { Body } from '../routes.ts';
import type { ImageView, NetworkView } from '../schemas.ts';
import { Differences, given } from './compare.ts';
import { siteFileError } from './parse.ts';
import type { Difference } from './plan.ts';
import type { ImageEntry, NetworkEntry, RangeEntry, SiteFile } from './types.ts';

export function networkBody(name: string, entry: NetworkEntry, origin: string): Body<'network.create'> {
  return { name, ...given(entry), mode: entry.mode, origin } as Body<'network.create'>;
}

/** The range as the site would complete it, so that `FD77:0::/64` and `fd77::/64` are the same. */
function completed(
  path: string,
  range: RangeEntry | undefined,
  family: 4 | 6,
  mode: 'bridge' | 'nat',
  file: SiteFile,
): RangeEntry | undefined {
  if (!range) return undefined;
  try {
    return rangeFrom(range, family, mode);
  } catch (error) {
    if (!(error instanceof VirgaError)) throw error;
    throw siteFileError(file.file, [
      { line: file.lines.get(`${path}.cidr`) ?? 1, detail: `${path}: ${error.message}` },
    ]);
  }
}

export function networkDifferences(
  name: string,
  entry: NetworkEntry,
  network: NetworkView,
  file: SiteFile,
): Difference[] {
  const { spec } = network;
  const differences = new Differences();
  differences.compare('mode', entry.mode, spec.mode, true);
  differences.compare('bridge', entry.bridge, spec.bridge, true);
  for (const [field, family] of [
    ['ipv4', 4],
    ['ipv6', 6],
  ] as const) {
    const wanted = completed(`networks.${name}.${field}`, entry[field], family, entry.mode, file);
    const actual = spec[field];
    if (!wanted) continue;
    for (const key of ['cidr', 'from', 'to', 'gateway'] as const) {
      differences.compare(`${field}.${key}`, wanted[key], actual?.[key], true);
      if (wanted[key] === undefined) differences.gone(`${field}.${key}`, actual?.[key]);
    }
  }
  differences.number('mtu', entry.mtu, spec.mtu, true);
  differences.list('dns.servers', entry.dns?.servers, spec.dns.servers, true);
  differences.list('dns.search', entry.dns?.search, spec.dns.search, true);
  differences.labels(entry.labels, network.labels, true);
  return differences.found;
}

export function imageDifferences(entry: ImageEntry, image: ImageView): Difference[] {
  const differences = new Differences();
  differences.compare('format', entry.format, image.spec.format, true);
  differences.compare('sha512', entry.sha512, image.status.givenSha512 ?? image.spec.expectedSha512, true);
  differences.compare('description', entry.description, image.spec.description, true);
  differences.labels(entry.labels, image.labels, true);
  if (image.status.state === 'failed') differences.compare('state', 'ready', 'failed', true);
  return differences.found;
}
