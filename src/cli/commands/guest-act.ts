/** `guest start|stop|reboot|pause|resume|rebuild|hold|unhold|delete`: one thing done to one or many guests. */
import type { Command } from 'commander';
import type { GuestView } from '../../api/schemas.ts';
import { leaf, type Call, type Manner, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import { each, repeating, report, selectGuests, type Selection } from '../lists.ts';
import { counted, parseSeconds } from '../units.ts';
import { waitForGuests, type Awaited } from './guest-wait.ts';

interface ActOptions extends Selection {
  readonly wait?: boolean;
  readonly timeout?: number;
  readonly force?: boolean;
  readonly grace?: number;
  readonly confirm?: string;
}

interface Act {
  readonly name: string;
  readonly summary: string;
  readonly detail?: string;
  readonly manner: Extract<Manner, 'act' | 'destroy'>;
  readonly options?: (command: Command) => unknown;
  readonly examples: readonly string[];
  /** `started`, for the summary. */
  readonly done: string;
  /** `is starting` */
  readonly now: string;
  /** `is running already`; absent where a repeat does the thing again. */
  readonly already?: string;
  /** What `--wait` waits for. */
  readonly state?: Awaited;
  /** Asks before it is done: the sentence, or undefined for nothing to ask. */
  readonly ask?: (call: Call<ActOptions>, names: readonly string[]) => string | undefined;
  /** Whether a repeat after a broken connection does no harm. */
  readonly repeats: boolean;
  readonly send: (call: Call<ActOptions>, params: { guest: string }) => Promise<GuestView>;
}

interface Done {
  readonly guest: GuestView;
  readonly changed: boolean;
}

async function perform(call: Call<ActOptions>, act: Act, name: string): Promise<Done> {
  const before = await call.client.call('guest.show', { params: { guest: name }, ...call.look });
  // By id from here on: a guest that is deleted and made anew under the same name meanwhile is not meant.
  const send = (): Promise<GuestView> => act.send(call, { guest: before.id });
  const guest = act.repeats ? await repeating(call.io.interrupted, send) : await send();
  return {
    guest,
    changed: guest.generation !== before.generation || (guest.deletionAt ?? '') !== (before.deletionAt ?? ''),
  };
}

async function run(call: Call<ActOptions>, act: Act): Promise<number> {
  const names = await selectGuests(call);
  if (names.length === 0) {
    call.out.document([]);
    call.out.note('No guests are meant; nothing to do.');
    return 0;
  }
  const question = act.ask?.(call, names);
  if (question !== undefined) await confirm(call, question);
  const outcomes = await each(names, (name) => perform(call, act, name));
  const went = outcomes.filter((one) => one.value !== undefined).map((one) => one.name);
  if (call.options.wait === true && act.state && went.length > 0) {
    const ids = outcomes.flatMap((one) => (one.value ? [one.value.guest.id] : []));
    const guests = await waitForGuests(call, ids, act.state, call.options.timeout ?? 300);
    const state = act.state;
    const now = new Map(guests.map((guest) => [guest.id, guest]));
    return report(
      call,
      outcomes.map((one) =>
        one.value
          ? { name: one.name, value: now.get(one.value.guest.id) ?? one.value.guest }
          : { name: one.name, error: one.error },
      ),
      {
        kind: 'guest',
        done: act.done,
        say: (one) => (state === 'deleted' ? `${one.name} is gone` : `${one.name} is ${state}`),
      },
    );
  }
  const documents = outcomes.map((one) =>
    one.value ? { name: one.name, value: one.value.guest } : { name: one.name, error: one.error },
  );
  const changed = new Map(outcomes.map((one) => [one.name, one.value?.changed === true]));
  return report(call, documents, {
    kind: 'guest',
    done: act.done,
    say: (one) =>
      act.already !== undefined && changed.get(one.name) !== true
        ? `${one.name} ${act.already}`
        : `${one.name} ${act.now}`,
  });
}

const listed = (names: readonly string[]): string =>
  names.length <= 5 ? names.join(', ') : `${names.slice(0, 5).join(', ')} and ${names.length - 5} more`;

const acts: readonly Act[] = [
  {
    name: 'start',
    summary: 'Start guests',
    manner: 'act',
    examples: ['guest start web-1', 'guest start -l role=web --wait'],
    done: 'started',
    now: 'is starting',
    already: 'is started already',
    state: 'running',
    repeats: true,
    send: (call, params) => call.client.call('guest.start', { params, body: {}, ...call.change }),
  },
  {
    name: 'stop',
    summary: 'Stop guests: politely, then by force after the grace time',
    detail: 'With --force at once, as if the power were cut; for several guests that is asked first.',
    manner: 'destroy',
    options: (command) =>
      command
        .option('--force', 'at once, without asking the guest')
        .option('--grace <duration>', 'time for the polite stop', parseSeconds),
    examples: ['guest stop web-1', 'guest stop web-1 --grace 2m --wait', 'guest stop --all --force --yes'],
    done: 'stopped',
    now: 'is stopping',
    already: 'is stopped already',
    state: 'stopped',
    ask: (call, names) =>
      call.options.force === true && names.length > 1
        ? `This cuts the power of ${counted(names.length, 'guest')} (${listed(names)}); what they have not written is lost`
        : undefined,
    repeats: true,
    send: (call, params) => {
      const { force, grace } = call.options;
      if (force === true && grace !== undefined) throw usage('--force leaves no grace time; give one of the two');
      const body = {
        ...(force === true ? { force } : {}),
        ...(grace === undefined ? {} : { graceSeconds: Math.round(grace) }),
      };
      return call.client.call('guest.stop', { params, body, ...call.change });
    },
  },
  {
    name: 'reboot',
    summary: 'Reboot guests from inside',
    manner: 'act',
    examples: ['guest reboot web-1'],
    done: 'rebooted',
    now: 'is rebooting',
    repeats: false,
    send: (call, params) => call.client.call('guest.reboot', { params, body: {}, ...call.change }),
  },
  {
    name: 'pause',
    summary: 'Pause guests: they keep their memory and get no CPU',
    manner: 'act',
    examples: ['guest pause web-1'],
    done: 'paused',
    now: 'is being paused',
    already: 'is paused already',
    state: 'paused',
    repeats: true,
    send: (call, params) => call.client.call('guest.pause', { params, body: {}, ...call.change }),
  },
  {
    name: 'resume',
    summary: 'Resume paused guests',
    manner: 'act',
    examples: ['guest resume web-1'],
    done: 'resumed',
    now: 'goes on',
    already: 'is running already',
    state: 'running',
    repeats: true,
    send: (call, params) => call.client.call('guest.resume', { params, body: {}, ...call.change }),
  },
  {
    name: 'rebuild',
    summary: 'Bring guests back to their original image; what their disks hold is lost',
    manner: 'destroy',
    examples: ['guest rebuild web-1', 'guest rebuild -l role=web --yes'],
    done: 'rebuilt',
    now: 'is being rebuilt',
    ask: (_call, names) => `This brings ${listed(names)} back to the original image; what the disks hold is lost`,
    repeats: false,
    send: (call, params) => call.client.call('guest.rebuild', { params, body: {}, ...call.change }),
  },
  {
    name: 'cleanup',
    summary: 'Try guests anew that were given up after too many restarts or moves',
    manner: 'act',
    examples: ['guest cleanup web-1', 'guest cleanup --all'],
    done: 'cleaned up',
    now: 'is tried anew',
    already: 'was not given up',
    state: 'running',
    repeats: true,
    send: (call, params) => call.client.call('guest.cleanup', { params, body: {}, ...call.change }),
  },
  {
    name: 'unhold',
    summary: 'Let held guests go again',
    manner: 'act',
    examples: ['guest unhold web-1'],
    done: 'let go',
    now: 'is let go',
    already: 'is not held',
    repeats: true,
    send: (call, params) => call.client.call('guest.unhold', { params, body: {}, ...call.change }),
  },
  {
    name: 'release',
    summary: 'Give adopted guests back to plain libvirt, as they were',
    manner: 'destroy',
    examples: ['guest release oldmail'],
    done: 'released',
    now: 'is given back',
    already: 'is being given back already',
    state: 'deleted',
    ask: (_call, names) => `Virga lets go of ${listed(names)}; they run on under plain libvirt`,
    repeats: true,
    send: (call, params) => call.client.call('guest.release', { params, body: {}, ...call.change }),
  },
  {
    name: 'delete',
    summary: 'Delete guests and their disks',
    manner: 'destroy',
    examples: ['guest delete web-1', 'guest delete -l job=42 --yes --wait'],
    done: 'deleted',
    now: 'is being deleted',
    already: 'is being deleted already',
    state: 'deleted',
    ask: (_call, names) => `This deletes ${counted(names.length, 'guest')} with their disks: ${listed(names)}`,
    repeats: true,
    send: (call, params) => call.client.call('guest.delete', { params, ...call.change }),
  },
];

async function hold(call: Call<Selection>): Promise<number> {
  const { reason } = call.options;
  if (reason === undefined)
    throw usage('say why it is held: --reason "…"; it is shown to everybody who wants to change the guest');
  const act: Act = {
    name: 'hold',
    summary: '',
    manner: 'act',
    examples: [],
    done: 'held',
    now: 'is held',
    already: 'is held already',
    repeats: true,
    send: (inner, params) => inner.client.call('guest.hold', { params, body: { reason }, ...inner.change }),
  };
  return run(call, act);
}

const selectors = (command: Command): Command =>
  command.option('-l, --label <selector>', 'all with these labels').option('--all', 'all guests');

export function actCommands(guest: Command, shell: Shell): void {
  for (const act of acts)
    leaf<ActOptions>(guest, shell, {
      syntax: `${act.name} [name...]`,
      summary: act.summary,
      ...(act.detail === undefined ? {} : { detail: act.detail }),
      manner: act.manner,
      options: (command) => {
        selectors(command);
        if (act.state)
          command
            .option(
              '-w, --wait',
              act.state === 'deleted' ? 'wait until they are gone' : `wait until they are ${act.state}`,
            )
            .option('--timeout <duration>', 'of --wait; default 5m', parseSeconds);
        act.options?.(command);
      },
      examples: act.examples,
      run: (call) => run(call, act),
    });
  leaf<Selection>(guest, shell, {
    syntax: 'hold [name...]',
    summary: 'Keep guests exactly as they are until "unhold"',
    detail: 'Nothing starts, stops, restarts or moves a held guest. The reason is required.',
    manner: 'act',
    options: selectors,
    examples: ['guest hold web-1 --reason "under forensics, ask Ada"'],
    run: hold,
  });
}
