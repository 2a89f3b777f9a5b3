import type { World } from './world.ts';

/** What keeps the site from being as it should be; empty: nothing. */
export function unsettled(world: World): readonly string[] {
  const leader = world.leader();
  if (!leader) return ['nobody leads'];
  const { snapshot } = leader.state;
  const found: string[] = [];
  for (const host of snapshot.all('host'))
    if (host.spec.role !== 'witness' && host.status.state !== 'online')
      found.push(`${host.name} is ${host.status.state}`);
  for (const guest of snapshot.all('guest')) {
    const { state } = guest.status;
    const executing = world.laws.executing(guest.id).length;
    const { spec, status } = guest;
    const wanted = spec.power === 'on' && spec.restart === 'always' && !spec.held && !status.exhausted;
    const what = `${guest.name} is ${state}, ${executing} copies execute`;
    if (wanted && state !== 'failed' && (state !== 'running' || executing !== 1)) found.push(what);
    else if (executing !== (state === 'running' ? 1 : 0)) found.push(what);
  }
  return found;
}
