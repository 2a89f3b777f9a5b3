/** Carrying out a plan, step by step; what was done is told also when a step fails. */
import { randomUUID } from 'node:crypto';
import { dirname, isAbsolute, join } from 'node:path';
import type { Create, Plan, Step } from '../../api/site-file.ts';
import { VirgaError } from '../../api/errors.ts';
import type { Call } from '../call.ts';
import { waitForGuests } from '../commands/guest-wait.ts';
import { pause } from '../io.ts';
import { repeating } from '../lists.ts';
import { openSource } from './source.ts';
import { awaitImage, uploadImage } from './upload.ts';

export interface Done {
  readonly action: Step['action'];
  readonly kind: string;
  readonly name: string;
}

export const subjectOf = (step: Step): { kind: string; name: string } => {
  if (step.action === 'delete') return { kind: step.kind, name: step.name };
  const of = step.action === 'change' ? step.change : step.create;
  return { kind: of.kind, name: of.name };
};

/** Does the steps in order; `told` hears of each when it is done. The first error ends it. */
export async function carryOut(call: Call, plan: Plan, file: string, told: (done: Done) => void): Promise<void> {
  for (const step of plan.steps) {
    await one(call, plan, step, file);
    told({ action: step.action, ...subjectOf(step) });
  }
}

async function one(call: Call, plan: Plan, step: Step, file: string): Promise<void> {
  switch (step.action) {
    case 'create':
      return create(call, plan, step.create, file);
    case 'change':
      return change(call, step);
    case 'replace':
      await remove(call, step.create.kind, step.id);
      return create(call, plan, step.create, file);
    case 'delete':
      return remove(call, step.kind, step.id);
  }
}

async function create(call: Call, plan: Plan, what: Create, file: string): Promise<void> {
  const idempotencyKey = randomUUID();
  const signal = call.io.interrupted;
  if (what.kind === 'network') {
    await repeating(signal, () =>
      call.client.call('network.create', { body: what.body, idempotencyKey, ...call.change }),
    );
  } else if (what.kind === 'guest') {
    await repeating(signal, () =>
      call.client.call('guest.run', { body: what.body, idempotencyKey, timeoutMs: 60_000, ...call.change }),
    );
  } else await createImage(call, plan, what, file);
}

async function createImage(
  call: Call,
  plan: Plan,
  { name, entry }: Create & { kind: 'image' },
  file: string,
): Promise<void> {
  const path = entry.url ?? (isAbsolute(entry.file ?? '') ? (entry.file ?? '') : join(dirname(file), entry.file ?? ''));
  const source = await openSource(call.io, path);
  try {
    const { format, sha512, description, labels } = entry;
    const sent = await uploadImage(call, source, {
      name,
      format,
      origin: plan.site,
      ...(sha512 === undefined ? {} : { sha512 }),
      ...(description === undefined ? {} : { description }),
      ...(labels ? { labels: { ...labels } } : {}),
    });
    // Guests need it ready.
    await awaitImage(call, sent, 3600);
  } finally {
    await source.close();
  }
}

async function change(call: Call, { change: what }: Step & { action: 'change' }): Promise<void> {
  const signal = call.io.interrupted;
  if (what.kind === 'site') {
    await repeating(signal, () => call.client.call('site.set', { body: what.change, ...call.change }));
    return;
  }
  if (what.kind === 'host') {
    await repeating(signal, () =>
      call.client.call('host.change', { params: { host: what.id }, body: what.change, ...call.change }),
    );
    return;
  }
  const { id, change: body, resize } = what;
  if (body)
    await repeating(signal, () => call.client.call('guest.change', { params: { guest: id }, body, ...call.change }));
  if (resize)
    await repeating(signal, () =>
      call.client.call('guest.resize', { params: { guest: id }, body: resize, ...call.change }),
    );
}

const goneSeconds = 300;

/** Deletes by id and waits until nothing is left. What is gone already is no error: an earlier try may have done it. */
async function remove(call: Call, kind: string, id: string): Promise<void> {
  const signal = call.io.interrupted;
  try {
    if (kind === 'guest') {
      await repeating(signal, () => call.client.call('guest.delete', { params: { guest: id }, ...call.change }));
      await waitForGuests(call, [id], 'deleted', goneSeconds);
    } else if (kind === 'network')
      await whenFree(call, () => call.client.call('network.delete', { params: { network: id }, ...call.change }));
    else await whenFree(call, () => call.client.call('image.delete', { params: { image: id }, ...call.change }));
  } catch (error) {
    if (!(error instanceof VirgaError) || error.code !== 'not_found') throw error;
  }
}

/** A guest that was just deleted may still be counted as a user for a moment. */
async function whenFree(call: Call, request: () => Promise<unknown>): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await repeating(call.io.interrupted, request);
      return;
    } catch (error) {
      if (!(error instanceof VirgaError) || error.code !== 'in_use' || attempt >= 3) throw error;
      await pause(500 * 2 ** attempt, call.io.interrupted);
    }
  }
}
