/**
 * Who this host is, as joining left it (`src/agent/tls.ts`). Read apart from the agent's code, which brings HTTP and
 * WebSockets along: keepers are small.
 */
import type { Uuid } from '../core/model/resource.ts';
import { VirgaError } from '../core/errors.ts';
import type { WireIdentity } from '../effects/wire/index.ts';
import type { Files } from '../ports.ts';

export interface KeeperIdentity extends WireIdentity {
  /** Where the controller is, `https://HOST:PORT`. */
  readonly url: string;
  readonly siteId: Uuid;
  readonly siteName: string;
  readonly hostId: Uuid;
  readonly hostName: string;
}

/** @throws VirgaError setup when the host has not joined a site */
export async function readIdentity(files: Files, dataDir: string): Promise<KeeperIdentity> {
  const text = await files.read('credentials.json');
  if (text !== undefined) return JSON.parse(text) as KeeperIdentity;
  throw new VirgaError('setup', {
    detail: `This host has not joined a site (${dataDir})`,
    how: 'Ask the site for an invitation: virga host invite. Then: virga agent join URL TOKEN, or virga witness join URL TOKEN',
  });
}
