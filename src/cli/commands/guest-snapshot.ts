/** `guest snapshot create|list|revert|delete` */
import type { Command } from 'commander';
import { group, leaf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { repeating } from '../lists.ts';
import type { GuestView } from '../../api/schemas.ts';
import type { Column } from '../ui/table.ts';
import { ago } from '../units.ts';

interface SnapshotRow {
  readonly name: string;
  readonly id: string;
  readonly state: string;
  readonly askedAt: string;
  readonly createdAt?: string;
  readonly error?: string;
}

function rowsOf(guest: GuestView): SnapshotRow[] {
  const seen = new Map(guest.status.observed?.snapshots.map((each) => [each.id, each]));
  return guest.spec.snapshots.map((each) => {
    const found = seen.get(each.id);
    const state = each.wanted ? (found?.state ?? 'pending') : 'deleting';
    return {
      name: each.name,
      id: each.id,
      state,
      askedAt: each.askedAt,
      ...(found ? { createdAt: found.createdAt } : {}),
      ...(found?.error === undefined ? {} : { error: found.error }),
    };
  });
}

const columns: readonly Column<SnapshotRow>[] = [
  { title: 'NAME', value: (row) => row.name, tone: 'bold' },
  { title: 'STATE', value: (row) => row.state, tone: 'state' },
  { title: 'TAKEN', value: (row) => ago(row.createdAt ?? row.askedAt) },
  { title: 'PROBLEM', value: (row) => row.error ?? '-' },
  { title: 'ID', value: (row) => row.id, wide: true },
];

async function create(call: Call): Promise<void> {
  const [guest = '', name] = call.args;
  const body = name === undefined ? {} : { name };
  const answer = await call.client.call('guest.snapshot', { params: { guest }, body, ...call.change });
  call.out.document(answer);
  call.out.line(answer.spec.snapshots.at(-1)?.name ?? '');
}

async function revert(call: Call): Promise<void> {
  const [guest = '', snapshot = ''] = call.args;
  await confirm(call, `This brings ${guest} back to the snapshot ${snapshot}; what was written since is lost`);
  const answer = await call.client.call('guest.revert', { params: { guest, snapshot }, body: {}, ...call.change });
  call.out.document(answer);
  call.out.line(`${guest} goes back to ${snapshot}`);
}

async function remove(call: Call): Promise<void> {
  const [guest = '', snapshot = ''] = call.args;
  await confirm(call, `This deletes the snapshot ${snapshot} of ${guest}`);
  const answer = await repeating(call.io.interrupted, () =>
    call.client.call('guest.unsnapshot', { params: { guest, snapshot }, ...call.change }),
  );
  call.out.document(answer);
  call.out.line(`${snapshot} of ${guest} is being deleted`);
}

export function snapshotCommands(guest: Command, shell: Shell): void {
  const snapshot = group(guest, 'snapshot', 'Snapshots of a guest’s disk');
  leaf(snapshot, shell, {
    syntax: 'create <guest> [name]',
    summary: 'Take a snapshot of the disk',
    detail: 'The disk only, not the memory: to the guest a revert is like a power cut at that moment.',
    manner: 'act',
    examples: ['guest snapshot create db before-upgrade'],
    run: create,
  });
  leaf(snapshot, shell, {
    syntax: 'list <guest>',
    summary: 'List the snapshots of a guest',
    manner: 'list',
    examples: ['guest snapshot list db'],
    run: async (call) => {
      const answer = await call.client.call('guest.show', { params: { guest: call.args[0] ?? '' }, ...call.look });
      call.out.list(rowsOf(answer), columns, 'No snapshots.');
      return undefined;
    },
  });
  leaf(snapshot, shell, {
    syntax: 'revert <guest> <snapshot>',
    summary: 'Go back to a snapshot; what was written since is lost',
    manner: 'destroy',
    examples: ['guest snapshot revert db before-upgrade'],
    run: revert,
  });
  leaf(snapshot, shell, {
    syntax: 'delete <guest> <snapshot>',
    summary: 'Delete a snapshot',
    manner: 'destroy',
    examples: ['guest snapshot delete db before-upgrade --yes'],
    run: remove,
  });
}
