/** What the keeper of this machine knows, for `virga status` where the site cannot say how it stands. */
import { VirgaError } from '../api/errors.ts';
import { askKeeper, keeperDoors, keepersFolder, type DoorView } from '../api/keeper.ts';
import type { Call } from './call.ts';
import { Failure, isAway, plain, tell } from './failure.ts';
import { leaseStandingLines } from './ui/standing.ts';
import { shortMs, tripText } from './ui/lease.ts';
import { counted } from './units.ts';

export interface Here {
  readonly door: string;
  readonly view?: DoorView;
  readonly error?: VirgaError;
}

/** Asks all keepers of this machine; none where none runs. `VIRGA_KEEPERS`: another folder than the usual one. */
export async function lookHere(call: Pick<Call, 'io'>): Promise<Here[]> {
  const doors = keeperDoors(call.io.env['VIRGA_KEEPERS'] || keepersFolder);
  return Promise.all(
    doors.map(async (door) => {
      try {
        return { door, view: await askKeeper(door) };
      } catch (error) {
        return { door, error: error as VirgaError };
      }
    }),
  );
}

const meanings: Readonly<Record<DoorView['lease']['state'], string>> = {
  held: 'held: a majority of the voters grants it, guests run',
  lapsed: 'lapsed: no majority of the voters answers, highly available guests are frozen',
  none: 'none: it asks for none (no highly available guests, or its guard does not answer)',
  killing: 'over: the site started its guests elsewhere, what is left here is being removed',
};

const todo: Readonly<Record<DoorView['lease']['state'], readonly string[]>> = {
  held: ['Nothing is to be done for the guests here. Bring the controller or its database back.'],
  lapsed: [
    'They go on by themselves as soon as a majority of the voters answers: look at the network of this host and at the voters.',
    'Voters that are dead for ever are replaced on the controller’s machine: virga voters force NAME… (read its warning).',
  ],
  none: ['Guests that are not highly available are not touched. See also: virga doctor'],
  killing: ['Wait; then this host begins anew under its next session.'],
};

function viewLines({ session, lease, entries }: DoorView): string[] {
  const trips = Object.entries(lease.roundTripsMs).map(([name, ms]) => `${name} (${tripText(ms)})`);
  const left = lease.state === 'held' ? `, ${shortMs(lease.leftMs)} left` : '';
  const frozen = lease.state === 'lapsed' ? counted(entries.length, 'guest') : 'none';
  return [
    `Lease     ${meanings[lease.state]}${left}`,
    `Session   ${session.number} (${session.id})`,
    `Guests    ${counted(entries.length, 'guest')} under the lease, frozen: ${frozen}`,
    ...(lease.state === 'lapsed' ? entries.map((each) => `            ${each.guestId}`) : []),
    `Voters    ${trips.length > 0 ? `${trips.join(', ')} answer` : 'none answers'}`,
    `Guard     ${lease.guardLagMs === undefined ? 'does not answer' : `answers, worst lag ${shortMs(lease.guardLagMs)}`}`,
    `Epoch     ${lease.epoch} is the highest that it knows`,
    '',
    ...todo[lease.state],
  ];
}

/** Says how things stand here, where the site could not; throws the site's error where nothing is known here either. */
export async function statusFromHere(call: Call, error: unknown): Promise<number> {
  const site = error instanceof Failure ? error.error : error;
  if (!(site instanceof VirgaError) || !isAway(site)) throw error;
  const here = await lookHere(call);
  // A controller that does not lead still knows which voters answer it.
  const leases =
    site.code === 'site_unreachable'
      ? undefined
      : await call.client.call('lease.show', call.look).catch(() => undefined);
  if (here.length === 0 && !leases) throw error;
  const code = tell({ ...call.io, stdout: call.io.stderr }, error, false);
  call.out.document({
    ...site.toBody(),
    ...(leases ? { leases } : {}),
    here: here.map(({ door, view, error: why }) => ({ door, ...view, ...(why ? why.toBody() : {}) })),
  });
  const answering = here.filter((each) => each.view);
  for (const { door, view } of answering) {
    const which = answering.length > 1 ? ` (${door})` : '';
    call.out.line(`\nThis host, as its keeper sees it${which}:\n`);
    if (view) call.out.lines(viewLines(view).map(plain));
  }
  // What a keeper of another time left behind is of interest only where none answers.
  if (answering.length === 0) for (const { error: why } of here) call.out.line(`\n${why?.message ?? ''}`);
  if (leases) {
    call.out.line('\nThe voters, as the controller sees them:\n');
    call.out.lines(leaseStandingLines(leases, call.out));
  }
  return code;
}
