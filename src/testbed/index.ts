/**
 * Several simulated physical hosts on one machine, and a tiny guest that boots in seconds.
 *
 * ```ts
 * const testbed = await openTestbed({ hosts: ['alpha', 'beta'] });
 * try {
 *   const image = await tinyImage();
 *   await testbed.host('alpha').run(['virsh', 'list', '--all']);
 * } finally {
 *   await testbed.close();
 * }
 * ```
 */
export type * from './types.ts';
export { addressPlan, guestAddress } from './plan.ts';
export { testbedsDir } from './state.ts';
export { openTestbed } from './testbed.ts';
export { cleanStale, closeByName } from './teardown.ts';
export { tinyImage, tinySeed, tinyVariant, type SeedFiles, type TinyImage, type TinyOptions } from './tiny.ts';
