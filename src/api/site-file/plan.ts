/** (site file, site as it is) → what must be done. Pure; nothing is asked or changed here. */
import type { Body } from '../routes.ts';
import type { ImageView } from '../schemas.ts';
import { guestBody, guestDifferences, guestRequests } from './guests.ts';
import { hostDifferences, hostChange } from './hosts.ts';
import { imageDifferences, networkBody, networkDifferences } from './networks-images.ts';
import { guestNames, siteFileError, type Problem } from './parse.ts';
import { settingsChange, settingsDifferences } from './settings.ts';
import type { ImageEntry, SiteFile, SiteState } from './types.ts';

export type PlanKind = 'site' | 'host' | 'network' | 'image' | 'guest';

export interface Difference {
  readonly field: string;
  /** As people write it in a site file; absent: not set. */
  readonly old?: string;
  readonly new?: string;
  /** It cannot be changed: the object must be made anew. */
  readonly fixed?: true;
}

interface Of<K extends PlanKind> {
  readonly kind: K;
  readonly name: string;
}
/** Bytes of an image come from its entry, by whoever carries out the plan. */
export type Create =
  | (Of<'network'> & { readonly body: Body<'network.create'> })
  | (Of<'image'> & { readonly entry: ImageEntry })
  | (Of<'guest'> & { readonly body: Body<'guest.run'> });
export type Change =
  | (Of<'site'> & { readonly id: string; readonly change: Body<'site.set'> })
  | (Of<'host'> & { readonly id: string; readonly change: Body<'host.change'> })
  | (Of<'guest'> & {
      readonly id: string;
      readonly change?: Body<'guest.change'>;
      readonly resize?: Body<'guest.resize'>;
    });

export type Step =
  | { readonly action: 'create'; readonly create: Create }
  | { readonly action: 'change'; readonly change: Change; readonly differences: readonly Difference[] }
  | {
      readonly action: 'replace';
      readonly id: string;
      readonly create: Create;
      readonly differences: readonly Difference[];
    }
  | { readonly action: 'delete'; readonly kind: PlanKind; readonly name: string; readonly id: string };

export interface Plan {
  /** The name in the file; what it creates carries it as its origin. */
  readonly site: string;
  readonly steps: readonly Step[];
  /** Created by this file, no longer in it, and kept since there was no --prune. */
  readonly kept: readonly { readonly kind: PlanKind; readonly name: string }[];
  /** In the file, but a person must act first: hosts that have not joined. */
  readonly waiting: readonly { readonly kind: PlanKind; readonly name: string; readonly why: string }[];
}

export interface PlanOptions {
  /** Delete what this file created and no longer has. */
  readonly prune: boolean;
}

/** True when the site is as the file says. */
export const isEmpty = (plan: Plan): boolean => plan.steps.length === 0 && plan.waiting.length === 0;

/** @throws VirgaError `site_file` when the file speaks of things that neither it nor the site has. */
export function planSite(file: SiteFile, state: SiteState, options: PlanOptions): Plan {
  const problems = unknownThings(file, state);
  if (problems.length > 0) throw siteFileError(file.file, problems);
  const removals = removalsOf(file, state);
  return {
    site: file.site,
    // Networks and images first, since guests stand on them; removals last, guests before what they stand on.
    steps: [
      ...settingsSteps(file, state),
      ...networkSteps(file, state),
      ...imageSteps(file, state),
      ...hostSteps(file, state),
      ...guestSteps(file, state),
      ...(options.prune ? removals : []),
    ],
    kept: options.prune ? [] : removals.map(({ kind, name }) => ({ kind, name })),
    waiting: Object.keys(file.hosts)
      .filter((name) => !state.hosts.some((host) => host.name === name))
      .map((name) => ({ kind: 'host', name, why: `it has not joined: virga host invite --name ${name}` })),
  };
}

const lineOf = (file: SiteFile, path: string): number => file.lines.get(path) ?? 1;

/** Names in the file that lead nowhere. */
function unknownThings(file: SiteFile, state: SiteState): Problem[] {
  const problems: Problem[] = [];
  const known = (kind: 'hosts' | 'networks' | 'images', name: string): boolean =>
    Object.hasOwn(file[kind], name) || state[kind].some((each) => each.name === name || each.id === name);
  const demand = (kind: 'hosts' | 'networks' | 'images', name: string, path: string): void => {
    if (!known(kind, name))
      problems.push({
        line: lineOf(file, path),
        detail: `there is no ${kind.slice(0, -1)} "${name}", neither in this file nor on the site`,
      });
  };
  for (const [name, guest] of Object.entries(file.guests)) {
    const path = `guests.${name}`;
    demand('images', guest.image, `${path}.image`);
    if (guest.host !== undefined) demand('hosts', guest.host, `${path}.host`);
    for (const host of guest.prefer ?? []) demand('hosts', host, `${path}.prefer`);
    for (const network of guest.networks ?? []) demand('networks', network, `${path}.networks`);
    for (const network of Object.keys(guest.addresses ?? {})) {
      demand('networks', network, `${path}.addresses.${network}`);
      if (guest.networks && !guest.networks.includes(network))
        problems.push({
          line: lineOf(file, `${path}.addresses.${network}`),
          detail: `${path} has an address in "${network}", but is not in that network`,
        });
    }
  }
  for (const [name, image] of Object.entries(file.images))
    if (image.file === undefined && image.url === undefined && !state.images.some((each) => each.name === name))
      problems.push({
        line: lineOf(file, `images.${name}`),
        detail: `the image "${name}" is not on the site, and images.${name} has neither file nor url`,
      });
  return problems;
}

function settingsSteps({ settings }: SiteFile, { settings: site }: SiteState): Step[] {
  const differences = settings && site ? settingsDifferences(settings, site) : [];
  if (!settings || !site || differences.length === 0) return [];
  const change = { kind: 'site', name: site.name, id: site.id, change: settingsChange(settings, site) } as const;
  return [{ action: 'change', change, differences }];
}

function hostSteps(file: SiteFile, state: SiteState): Step[] {
  return Object.entries(file.hosts).flatMap(([name, entry]): Step[] => {
    const host = state.hosts.find((each) => each.name === name);
    const differences = host ? hostDifferences(entry, host) : [];
    if (!host || differences.length === 0) return [];
    return [
      { action: 'change', change: { kind: 'host', name, id: host.id, change: hostChange(entry, host) }, differences },
    ];
  });
}

function networkSteps(file: SiteFile, state: SiteState): Step[] {
  return Object.entries(file.networks).flatMap(([name, entry]): Step[] => {
    const network = state.networks.find((each) => each.name === name);
    const create = { kind: 'network', name, body: networkBody(name, entry, file.site) } as const;
    if (!network) return [{ action: 'create', create }];
    const differences = networkDifferences(name, entry, network, file);
    return differences.length === 0 ? [] : [{ action: 'replace', id: network.id, create, differences }];
  });
}

function imageSteps(file: SiteFile, state: SiteState): Step[] {
  return Object.entries(file.images).flatMap(([name, entry]): Step[] => {
    const image = state.images.find((each) => each.name === name);
    const create = { kind: 'image', name, entry } as const;
    // An upload that was cut short is gone on with.
    if (!image || isUnfinished(image, entry)) return [{ action: 'create', create }];
    const differences = imageDifferences(entry, image);
    return differences.length === 0 ? [] : [{ action: 'replace', id: image.id, create, differences }];
  });
}

const isUnfinished = (image: ImageView, entry: ImageEntry): boolean =>
  ['uploading', 'checking'].includes(image.status.state) && (entry.file !== undefined || entry.url !== undefined);

function guestSteps(file: SiteFile, state: SiteState): Step[] {
  const guests = new Map(state.guests.map((each) => [each.name, each]));
  return Object.entries(file.guests).flatMap(([stem, entry]) =>
    guestNames(stem, entry.count).flatMap((name): Step[] => {
      const guest = guests.get(name);
      const create = { kind: 'guest', name, body: guestBody(name, entry, file.site) } as const;
      if (!guest) return [{ action: 'create', create }];
      const differences = guestDifferences(entry, guest, state);
      if (differences.length === 0) return [];
      if (differences.some((each) => each.fixed)) return [{ action: 'replace', id: guest.id, create, differences }];
      return [
        {
          action: 'change',
          change: { kind: 'guest', name, id: guest.id, ...guestRequests(entry, guest, state) },
          differences,
        },
      ];
    }),
  );
}

interface Owned {
  readonly name: string;
  readonly id: string;
  readonly origin?: string;
  readonly deletionAt?: string;
}

/** What this file created once and no longer has. Never anything else. */
function removalsOf(file: SiteFile, state: SiteState): (Step & { action: 'delete' })[] {
  const wanted = new Set(Object.entries(file.guests).flatMap(([stem, entry]) => guestNames(stem, entry.count)));
  const ours = (
    kind: PlanKind,
    items: readonly Owned[],
    has: (name: string) => boolean,
  ): (Step & { action: 'delete' })[] =>
    items
      .filter((each) => each.origin === file.site && each.deletionAt === undefined && !has(each.name))
      .map(({ name, id }) => ({ action: 'delete', kind, name, id }));
  return [
    ...ours('guest', state.guests, (name) => wanted.has(name)),
    ...ours('image', state.images, (name) => Object.hasOwn(file.images, name)),
    ...ours('network', state.networks, (name) => Object.hasOwn(file.networks, name)),
  ];
}
