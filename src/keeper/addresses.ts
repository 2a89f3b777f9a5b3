/** Where others reach a socket that listens on every address of this machine. */
import { createSocket } from 'node:dgram';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

const anywhere = new Set(['0.0.0.0', '[::]']);

function splitPort(address: string): readonly [string, string] {
  const at = address.lastIndexOf(':');
  return [address.slice(0, at), address.slice(at + 1)];
}

const bracketed = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

/** The own address on the way to `host`: connecting a datagram socket asks the routes and sends nothing. */
async function wayTo(host: string): Promise<string | undefined> {
  const family = isIP(host);
  if (family === 0) return undefined;
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  return new Promise((done) => {
    const finish = (address: string | undefined): void => {
      socket.close();
      done(address);
    };
    socket.once('error', () => finish(undefined));
    socket.connect(9, host, () => finish(socket.address().address));
  });
}

function firstOutside(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return all.find(({ internal, address }) => !internal && !address.startsWith('fe80:'))?.address;
}

/**
 * The addresses to be told to the site. A wildcard becomes the address that this machine has towards the controller.
 * @param url of the controller, `https://HOST:PORT`
 */
export async function reachable(listening: readonly string[], url: string): Promise<readonly string[]> {
  const host = URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : '';
  const found = await Promise.all(
    listening.map(async (address) => {
      const [at, port] = splitPort(address);
      if (!anywhere.has(at)) return address;
      const own = (await wayTo(host)) ?? firstOutside();
      return own === undefined ? undefined : `${bracketed(own)}:${port}`;
    }),
  );
  return found.filter((each) => each !== undefined);
}
