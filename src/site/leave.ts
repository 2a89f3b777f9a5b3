/** `virga host leave --here`: this host's guests are stopped and the site is told; then it may go down. */
import { join } from 'node:path';
import { VirgaError } from '../api/errors.ts';
import type { LocalCall } from '../cli/program.ts';
import { askLocalDoor } from '../effects/local-door.ts';
import { defaults } from './paths.ts';

/** Beyond the time for the guests: what the loop, the engine and the keeper may take. */
const slackSeconds = 60;

export async function leaveHere(call: LocalCall): Promise<number> {
  const { here, data, reason, within, json } = call.options;
  if (here !== true)
    throw new VirgaError('usage', {
      detail:
        'Say --here: it stops every guest of this very machine. To keep new guests away from a host: virga host cordon',
    });
  const withinSeconds = Number(within);
  if (!Number.isFinite(withinSeconds) || withinSeconds < 0 || withinSeconds > 3600)
    throw new VirgaError('usage', { detail: '--within takes seconds, 0 to 3,600' });
  const folder = typeof data === 'string' ? data : join(defaults.dataDir, 'agent');
  const done = await askLocalDoor(
    join(folder, 'local.sock'),
    { do: 'leave', reason: typeof reason === 'string' ? reason : 'the host goes down', withinSeconds },
    {
      what: 'the agent of this host',
      timeoutMs: (withinSeconds + slackSeconds) * 1000,
      say: (text) => void (json === true || call.io.stdout.write(`${text}\n`)),
    },
  );
  if (json === true) call.io.stdout.write(`${JSON.stringify(done)}\n`);
  else
    call.io.stdout.write(
      'Nothing starts here until the agent is started again (or the machine). What becomes of the guests meanwhile is ' +
        'the policy of the site: virga site show\n',
    );
  return done['announced'] === true ? 0 : 1;
}
