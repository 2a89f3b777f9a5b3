/** Leases in words: one phrase for a column, a sentence where there is room. */
import type { HostLeaseView, LeasesView, VoterView } from '../../api/schemas.ts';
import { ago, counted } from '../units.ts';

/** `1.6 s`, `120 ms`. */
export const shortMs = (ms: number): string => (ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`);
/** A round trip: below ten milliseconds with a decimal. */
export const tripText = (ms: number | undefined): string =>
  ms === undefined ? '-' : ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;

/** For a column: `held 1.6 s`, `sealing 1/3`. The first word is the state. */
export function leaseText(lease: HostLeaseView | undefined): string {
  if (!lease) return '-';
  if (lease.state === 'held' && lease.leftMs !== undefined) return `held ${shortMs(lease.leftMs)}`;
  if (lease.state === 'sealing' && lease.votes !== undefined) return `sealing ${lease.sealedVotes ?? 0}/${lease.votes}`;
  return lease.state;
}

const meanings: Readonly<Record<HostLeaseView['state'], string>> = {
  held: 'held: a majority of the voters grants it',
  lapsed: 'lapsed: its guests are frozen; they go on when it hears a majority again',
  sealing: 'being sealed; then its guests start elsewhere',
  lost: 'lost: this session is over for ever; its guests start elsewhere',
  none: 'none: it asks for no lease (no highly available guests, or no guard that answers)',
  unknown: 'unknown: no majority of the voters says anything of it',
};

/** What the state of a lease means for the guests. */
export function leaseSentence({ state, leftMs, sealedVotes = 0, votes = 0 }: HostLeaseView): string {
  const left = state === 'held' && leftMs !== undefined ? `, ${shortMs(leftMs)} left` : '';
  const sealed = state === 'sealing' ? ` (${sealedVotes} of ${counted(votes, 'vote')} so far)` : '';
  return `${meanings[state]}${left}${sealed}`;
}

/** Epoch, or version of a list, for people: the random part only where two could be confused. */
export const epochText = (epoch: LeasesView['epoch']): string =>
  epoch.number === 0 ? 'none' : `${epoch.number} (${epoch.id.slice(0, 8)})`;
export const versionText = (version: LeasesView['version']): string =>
  version === undefined
    ? 'none'
    : `${version.number}${version.forced > 0 ? `, ${version.forced} by hand` : ''} of epoch ${version.epoch.number}`;

/** `10.0.0.1:7444 0.3 ms, 10.1.0.1:7444 does not answer` */
export const pathsText = (voter: VoterView): string =>
  voter.addresses
    .map((each) => `${each.address} ${each.answers ? tripText(each.roundTripMs) : 'does not answer'}`)
    .join(', ') || '-';

/** The lease's part of `host show`. */
export function leaseFacts(
  lease: HostLeaseView | undefined,
  observedAt: string | undefined,
): (readonly [string, string | undefined])[] {
  if (!lease) return [];
  return [
    ['Lease', `${leaseSentence(lease)}; seen ${ago(observedAt)}`],
    ['Session', lease.session && `${lease.session.number} (${lease.session.id})`],
    ['Votes', lease.voter ? 'yes, it is a voter' : 'no'],
    ['Silent', lease.silentSinceAt && `since ${ago(lease.silentSinceAt)}`],
    ['Voter list', lease.confirmed && `confirmed ${versionText(lease.confirmed)}`],
  ];
}
