/** `virga bench [NAME…]`: runs benches one after the other and prints a table each, or one JSON document each. */
import { VirgaError } from '../src/core/errors.ts';
import { installAll } from '../src/setup/packages.ts';
import { formatTable, type BenchOptions, type BenchResult } from './kit.ts';

const benches: Readonly<Record<string, () => Promise<{ run: (options: BenchOptions) => Promise<BenchResult> }>>> = {
  libvirt: () => import('./libvirt.ts'),
  start: () => import('./start.ts'),
  api: () => import('./api.ts'),
  converge: () => import('./converge.ts'),
  memory: () => import('./memory.ts'),
  beats: () => import('./beats.ts'),
  failover: () => import('./failover.ts'),
  dark: () => import('./dark.ts'),
  quiet: () => import('./quiet.ts'),
  sim: () => import('./sim.ts'),
};
/** Half an hour: only when it is named. */
const long = new Set(['quiet']);

/** Exit code 0 when every bound holds. */
export async function bench(
  options: { readonly names: readonly string[]; readonly json: boolean } & BenchOptions,
): Promise<number> {
  const names = options.names.length > 0 ? options.names : Object.keys(benches).filter((name) => !long.has(name));
  const unknown = names.filter((name) => !(name in benches));
  if (unknown.length > 0)
    throw new VirgaError('usage', {
      detail: `There is no bench ${unknown.join(', ')}; there are ${Object.keys(benches).join(', ')}`,
    });
  await installAll();
  let holds = true;
  for (const name of names) {
    const loaded = await benches[name]?.();
    if (!loaded) continue;
    const result = await loaded.run(options);
    holds &&= result.holds;
    console.log(options.json ? JSON.stringify(result) : formatTable(result));
  }
  return holds ? 0 : 1;
}
