import { openClient, type Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { GuestView, HostView, ImageView } from '../api/schemas.ts';

/** Asks again until `ask` gives something, at most `limitMs`. Errors of the site on the way are not fatal. */
export async function until<T>(
  what: string,
  limitMs: number,
  ask: () => Promise<T | undefined>,
  everyMs = 100,
): Promise<T> {
  const end = performance.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await ask();
      if (found !== undefined) return found;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end)
      throw new VirgaError('timeout', { what, seconds: Math.round(limitMs / 1000) }, { cause: last });
    await new Promise((next) => setTimeout(next, everyMs));
  }
}

/** A client of the controller at `socket`, once it leads and answers. */
export async function readyClient(socket: string, limitMs = 60_000): Promise<Client> {
  const client = openClient({ socket });
  try {
    await until('the controller', limitMs, async () => {
      const answer = await client.raw('health.ready', { timeoutMs: 5_000 });
      await answer.body.dump();
      return true;
    });
    return client;
  } catch (error) {
    await client.close();
    throw error;
  }
}

export async function hostsOnline(client: Client, count: number, limitMs = 60_000): Promise<readonly HostView[]> {
  return until(`${count} hosts`, limitMs, async () => {
    const { items } = await client.call('host.list');
    const online = items.filter((host) => host.status.state === 'online' && host.status.engine !== undefined);
    return online.length >= count ? online : undefined;
  });
}

export async function imageReady(client: Client, image: string, limitMs = 120_000): Promise<ImageView> {
  return until(`the image ${image}`, limitMs, async () => {
    const view = await client.call('image.show', { params: { image } });
    if (view.status.state === 'failed')
      throw new VirgaError('image_refused', { detail: view.status.error?.message ?? 'unknown', how: 'See its log.' });
    return view.status.state === 'ready' ? view : undefined;
  });
}

export async function guestsInState(
  client: Client,
  names: readonly string[],
  state: GuestView['status']['state'],
  limitMs = 120_000,
): Promise<readonly GuestView[]> {
  return until(`${names.join(', ')} ${state}`, limitMs, async () => {
    const { items } = await client.call('guest.list');
    const found = items.filter((guest) => names.includes(guest.name) && guest.status.state === state);
    return found.length === names.length ? found : undefined;
  });
}
