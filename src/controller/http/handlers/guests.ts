import { present } from '../../../api/present.ts';
import type { GuestView } from '../../../api/schemas.ts';
import { VirgaError } from '../../../core/errors.ts';
import { eligibility } from '../../../core/ha/eligible.ts';
import type { Guest } from '../../../core/model/guest.ts';
import { can, guestCan, guestState, type GuestAction } from '../../../core/model/states.ts';
import type { Host } from '../../../core/model/host.ts';
import type { Snapshot } from '../../../core/model/snapshot.ts';
import { explain } from '../../../core/place/explain.ts';
import * as actions from '../../../core/requests/actions.ts';
import { adoptGuest, findForeign, releaseGuest } from '../../../core/requests/adoption.ts';
import { cleanupGuest } from '../../../core/requests/cleanup.ts';
import { runGuests } from '../../../core/requests/guests.ts';
import { resizeGuest } from '../../../core/requests/resize.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import type { RequestResult } from '../../../core/requests/result.ts';
import { createSnapshot, deleteSnapshot, revertSnapshot } from '../../../core/requests/snapshots.ts';
import { startGuest } from '../../../core/requests/start.ts';
import type { Handlers, Reply, UpgradeOperation } from '../call.ts';
import type { Call } from '../call.ts';
import { pageOf } from '../lists.ts';
import type { Services } from '../services.ts';
import { changeOne, createSome, onlyOne } from './change.ts';
import type { guestsRoutes } from '../../../api/routes/guests.ts';

type GuestOperation = Exclude<keyof typeof guestsRoutes, UpgradeOperation>;
type OnGuest = Exclude<GuestOperation, 'guest.list' | 'guest.run' | 'guest.adopt'>;

/** Bytes of the serial output when nobody says how many. */
const usualLogBytes = 64 * 1024;

export function guestHandlers(services: Services): Handlers<GuestOperation> {
  const { state } = services;
  const change = async <O extends OnGuest>(
    call: Call<O>,
    request: (snapshot: Snapshot, ref: string) => RequestResult,
  ): Promise<Reply<O>> => {
    const ref = (call.params as { guest: string }).guest;
    const { resource } = await changeOne(services, 'guest', ref, call, (snapshot) => request(snapshot, ref));
    return { resource };
  };
  return {
    'guest.list': (call) => ({ pieces: pageOf(state.snapshot, 'guest', call.query) }),
    'guest.run': async (call) => {
      const { resources, result } = await createSome(services, call, 'guest', (snapshot) =>
        runGuests(snapshot, call.body, call.context),
      );
      const items = resources.map((each) => present(each)) as unknown as GuestView[];
      return { value: { items, refused: (result?.refused ?? []).map(({ name, reason }) => `${name}: ${reason}`) } };
    },
    'guest.show': (call) => ({ resource: resolve(state.snapshot, 'guest', call.params.guest) }),
    'guest.change': (call) => change(call, (at, ref) => actions.changeGuest(at, ref, call.body, call.context)),
    'guest.delete': (call) => change(call, (at, ref) => actions.deleteGuest(at, ref, call.context)),
    'guest.explain': (call) => ({ value: explanation(state.snapshot, call.params.guest) }),
    'guest.start': (call) => change(call, (at, ref) => startGuest(at, ref, call.context)),
    'guest.stop': (call) => change(call, (at, ref) => actions.stopGuest(at, ref, call.body, call.context)),
    'guest.reboot': (call) => change(call, (at, ref) => actions.rebootGuest(at, ref, call.context)),
    'guest.pause': (call) => change(call, (at, ref) => actions.pauseGuest(at, ref, call.context)),
    'guest.resume': (call) => change(call, (at, ref) => actions.resumeGuest(at, ref, call.context)),
    'guest.resize': (call) => change(call, (at, ref) => resizeGuest(at, ref, call.body, call.context)),
    'guest.rebuild': (call) => change(call, (at, ref) => actions.rebuildGuest(at, ref, call.context)),
    'guest.hold': (call) => change(call, (at, ref) => actions.holdGuest(at, ref, call.body, call.context)),
    'guest.unhold': (call) => change(call, (at, ref) => actions.unholdGuest(at, ref, call.context)),
    'guest.release': (call) => change(call, (at, ref) => releaseGuest(at, ref, call.context)),
    'guest.cleanup': (call) => change(call, (at, ref) => cleanupGuest(at, ref, call.context)),
    'guest.adopt': async (call) => {
      const { host, domain } = findForeign(state.snapshot, call.body);
      const inspected = await services.links.ask<'inspect'>(host, { ask: 'inspect', uuid: domain.uuid });
      const { resources } = await createSome(services, call, 'guest', (snapshot) =>
        adoptGuest(snapshot, call.body, inspected, call.context),
      );
      return { resource: onlyOne(resources, 'guest') };
    },
    'guest.snapshot': (call) => {
      const name =
        call.body.name ?? `snapshot-${new Date(call.context.now).toISOString().replaceAll(/\D/g, '').slice(0, 14)}`;
      return change(call, (at, ref) => createSnapshot(at, ref, { name }, call.context));
    },
    'guest.revert': (call) =>
      change(call, (at, ref) => revertSnapshot(at, ref, { snapshot: call.params.snapshot }, call.context)),
    'guest.unsnapshot': (call) =>
      change(call, (at, ref) => deleteSnapshot(at, ref, { snapshot: call.params.snapshot }, call.context)),
    'guest.log': async (call) => {
      const { guest, host } = reach(state.snapshot, call.params.guest, 'log');
      const tailBytes = call.query.bytes ?? usualLogBytes;
      const { text, truncated } = await services.links.ask<'log'>(host, { ask: 'log', guestId: guest.id, tailBytes });
      return { text, type: 'text/plain; charset=utf-8', headers: { 'virga-truncated': String(truncated) } };
    },
  };
}

/** The guest and the host that can answer for it. @throws VirgaError not_allowed · host_unreachable */
export function reach(snapshot: Snapshot, ref: string, action: GuestAction): { guest: Guest; host: Host } {
  const guest = resolve(snapshot, 'guest', ref);
  const { placement } = guest.status;
  const host = placement && snapshot.get('host', placement.hostId);
  const { state } = guestState(guest, host);
  const legal = can(action, state);
  if (legal !== true)
    throw new VirgaError('not_allowed', { name: guest.name, state, action: guestCan[action].past, why: legal });
  if (!host) throw new VirgaError('host_unreachable', { name: placement?.hostId ?? 'none' });
  return { guest, host };
}

function explanation(snapshot: Snapshot, ref: string) {
  const guest = resolve(snapshot, 'guest', ref);
  const { placed, hosts } = explain(snapshot, guest);
  const { state, stateReason, waits } = guest.status;
  const able = eligibility(guest);
  return {
    guest: guest.name,
    state,
    ...(stateReason === undefined ? {} : { stateReason }),
    ha: able.ha ? { ha: true } : { ha: false, why: able.why },
    ...(placed ? { host: placed.host } : {}),
    reasons: [
      ...(placed?.reasons ?? guest.status.unplaced ?? []),
      ...(waits === undefined ? [] : [`it waits: ${waits}`]),
    ],
    hosts: hosts.map(({ host, fits, chosen, sentence }) => ({ host, fits, chosen, reasons: [sentence] })),
  };
}
