/** `virga review …`: after a restore a person decides on what the restored state does not know. */
import type { Command } from 'commander';
import type { ReviewView } from '../../api/schemas.ts';
import { group, leaf, oneOf, type Call, type Shell } from '../call.ts';
import { confirm } from '../confirm.ts';
import { usage } from '../failure.ts';
import type { Column } from '../ui/table.ts';
import { ago, counted } from '../units.ts';

type Item = ReviewView['items'][number];
const columns: readonly Column<Item>[] = [
  { title: 'NAME', value: (item) => item.name, tone: 'bold' },
  { title: 'HOST', value: (item) => item.host },
  { title: 'WHAT', value: (item) => item.what },
  { title: 'RUNS', value: (item) => (item.running ? 'yes' : 'no') },
  { title: 'DETAIL', value: (item) => item.detail },
  { title: 'ID', value: (item) => item.guestId, tone: 'dim' },
];

async function list(call: Call): Promise<void> {
  const review = await call.client.call('site.review', call.look);
  if (call.out.json) return call.out.document(review);
  if (!review.pending) return call.out.line('No review is pending.');
  call.out.line(
    `Restored ${ago(review.restoredAt)} from a backup of ${ago(review.backupAt)}. Nothing is destroyed until the review ends.`,
  );
  call.out.list(review.items, columns, 'Nothing to decide. End it: virga review finish');
}

/** The item that is meant: by the id of its guest, the beginning of it, or its name where that is clear. */
function itemOf(review: ReviewView, name: string): Item {
  const found = review.items.filter(
    (item) => item.guestId === name || item.name === name || (name.length >= 8 && item.guestId.startsWith(name)),
  );
  const [item] = found;
  if (!item) throw usage(`the review has no item "${name}"; see: virga review list`);
  if (new Set(found.map((each) => each.guestId)).size > 1)
    throw usage(`"${name}" is the name of several items; give the id`);
  return item;
}

async function decide(call: Call): Promise<void> {
  const [name = '', word = ''] = call.args;
  const decision = oneOf(word, ['adopt', 'destroy', 'keep']);
  const item = itemOf(await call.client.call('site.review', call.look), name);
  if (decision === 'destroy') await confirm(call, `This ends ${item.name} on ${item.host} and deletes its disks`);
  const review = await call.client.call('site.decide', { body: { guestId: item.guestId, decision }, ...call.change });
  call.out.document(review);
  call.out.line(`${item.name}: ${decision}; ${counted(review.items.length, 'item')} left`);
}

async function finish(call: Call): Promise<void> {
  const before = await call.client.call('site.review', call.look);
  if (!before.pending) {
    call.out.document(before);
    call.out.line('No review is pending already.');
    return;
  }
  await confirm(
    call,
    `This ends the review with ${counted(before.items.length, 'item')} undecided; from then on orders may destroy again`,
  );
  const review = await call.client.call('site.reviewed', { body: {}, ...call.change });
  call.out.document(review);
  call.out.line('The review is over.');
}

export function reviewCommands(program: Command, shell: Shell): void {
  const review = group(program, 'review', 'After a restore: decide on what the restored state does not know');
  leaf(review, shell, {
    syntax: 'list',
    summary: 'List what is to be decided',
    manner: 'list',
    examples: ['review list'],
    run: list,
  });
  leaf(review, shell, {
    syntax: 'decide <name> <adopt|destroy|keep>',
    summary: 'Decide on one item',
    detail: 'adopt: take it into the state as it is. destroy: end it with its disks. keep: leave it alone, undecided.',
    manner: 'destroy',
    examples: ['review decide web-9 adopt', 'review decide 1b4e28ba destroy'],
    run: decide,
  });
  leaf(review, shell, {
    syntax: 'finish',
    summary: 'End the review; from then on orders may destroy again',
    manner: 'destroy',
    examples: ['review finish'],
    run: finish,
  });
}
