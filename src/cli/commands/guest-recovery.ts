/** What a person says, and sees, of a guest whose host is lost. */
import type { Command } from 'commander';
import { eligibilityOf, usualLimits, usualPriority } from '../../api/recovery.ts';
import type { Body } from '../../api/routes.ts';
import type { GuestView } from '../../api/schemas.ts';
import { oneOf } from '../call.ts';
import { usage } from '../failure.ts';
import type { Names } from '../names.ts';
import { ago, collect, counted, parseSeconds, parseWhole, span } from '../units.ts';

export interface RecoveryOptions {
  readonly ha?: 'on' | 'off';
  readonly priority?: number;
  readonly prefer?: string[];
  readonly failBack?: boolean;
  readonly maxRestarts?: number;
  readonly maxMoves?: number;
  readonly window?: number;
}

type RecoveryBody = Pick<Body<'guest.change'>, 'ha' | 'priority' | 'preferredHosts' | 'failBack' | 'limits'>;

/** @param change - of a guest that is there: what was set can be taken away again. */
export function recoveryOptions(command: Command, change = false): void {
  command
    .optionsGroup('When its host is lost:')
    .option('--ha <on|off>', 'off: never started elsewhere by itself; on: where its disk allows it', (text) =>
      oneOf(text, ['on', 'off']),
    )
    .option(
      '--priority <n>',
      `who is recovered first: 0 to 100, higher first; default ${usualPriority}`,
      parseWhole(0, 100),
    )
    .option(
      '--prefer <host>',
      `a host it prefers, best first; may be repeated${change ? '; "none" for no preference' : ''}`,
      collect,
    )
    .option('--fail-back', 'move back to a preferred host when that fits again; costs a restart')
    .option('--max-restarts <n>', 'given up after more restarts within the window', parseWhole(0, 31))
    .option(
      '--max-moves <n>',
      `given up after more moves within the window; default ${usualLimits.moves}`,
      parseWhole(0, 31),
    )
    .option('--window <duration>', `the window; default ${span(usualLimits.windowSeconds * 1000)}`, parseSeconds);
  if (change) command.option('--no-fail-back', 'stay where it is');
}

/** Only what was given. */
export function recoveryBody(options: RecoveryOptions): RecoveryBody {
  const { ha, priority, prefer, failBack, maxRestarts, maxMoves, window } = options;
  if (prefer?.includes('none') === true && prefer.length > 1) throw usage('--prefer none stands alone');
  const limits = {
    ...(maxRestarts === undefined ? {} : { restarts: maxRestarts }),
    ...(maxMoves === undefined ? {} : { moves: maxMoves }),
    ...(window === undefined ? {} : { windowSeconds: Math.round(window) }),
  };
  return {
    ...(ha === undefined ? {} : { ha }),
    ...(priority === undefined ? {} : { priority }),
    ...(prefer === undefined ? {} : { preferredHosts: prefer.includes('none') ? [] : prefer }),
    ...(failBack === undefined ? {} : { failBack }),
    ...(Object.keys(limits).length > 0 ? { limits } : {}),
  };
}

/** In a sentence: what happens to the guest when its host is lost. */
export function haText(guest: GuestView): string {
  const answer = eligibilityOf(guest);
  return answer.ha ? 'it starts elsewhere (highly available)' : `it stays down until its host is back (${answer.why})`;
}

/** For a column. */
export const haWord = (guest: GuestView): string => (eligibilityOf(guest).ha ? 'yes' : 'no');
export const haWhy = (guest: GuestView): string => {
  const answer = eligibilityOf(guest);
  return answer.ha ? '-' : answer.why;
};

/** The part of `guest show` about recovery. */
export function recoveryFacts(guest: GuestView, names: Names): (readonly [string, string | undefined])[] {
  const { spec, status } = guest;
  const { limits } = spec;
  const most = [
    limits?.restarts === undefined ? undefined : counted(limits.restarts, 'restart'),
    limits?.moves === undefined ? undefined : counted(limits.moves, 'move'),
  ].filter((each) => each !== undefined);
  const moves = status.movedAt ?? [];
  return [
    ['When its host is lost', haText(guest)],
    [
      'Frozen',
      status.observed?.frozen === true ? 'with the lapsed lease of its host; it goes on when that is back' : undefined,
    ],
    ['Priority', spec.priority === undefined ? undefined : String(spec.priority)],
    [
      'Prefers',
      spec.preferredHosts &&
        `${spec.preferredHosts.map((id) => names.host(id)).join(', ')}${spec.failBack === true ? '; moves back there' : ''}`,
    ],
    [
      'Given up after',
      limits &&
        `${most.join(' or ') || counted(usualLimits.moves, 'move')} within ${span(limits.windowSeconds * 1000)}`,
    ],
    ['Moved', moves.length > 0 ? `${counted(moves.length, 'time')}, last ${ago(moves.at(-1))}` : undefined],
    [
      'Recovering',
      status.recovery &&
        `from ${status.recovery.from}, ${ago(status.recovery.sinceAt)}: ${status.recovery.why === 'lost' ? 'that host was lost' : 'it moves back to a host that it prefers'}`,
    ],
    ['Waits', status.waits],
    [
      'Given up',
      status.exhausted &&
        `too many ${status.exhausted.what}, ${ago(status.exhausted.exhaustedAt)}; try anew: virga guest cleanup ${guest.name}`,
    ],
  ];
}
