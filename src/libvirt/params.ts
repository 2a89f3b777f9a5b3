import type { Param } from './types.ts';

/** Typed parameters by name. A name may repeat (`migrate_disks`): `get` gives the first value, `all` every one. */
export class Params {
  readonly #values = new Map<string, Param['value'][]>();

  constructor(params: readonly Param[]) {
    for (const { field, value } of params) {
      const known = this.#values.get(field);
      if (known === undefined) this.#values.set(field, [value]);
      else known.push(value);
    }
  }

  /** The names, in the order of their first occurrence. */
  names(): string[] {
    return [...this.#values.keys()];
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The first value of that name. */
  get(name: string): Param['value'] | undefined {
    return this.#values.get(name)?.[0];
  }

  /** Every value of that name, in wire order. */
  all(name: string): readonly Param['value'][] {
    return this.#values.get(name) ?? [];
  }

  /** The first value as a number; 64-bit counters lose precision above 2^53. `undefined` where it is none. */
  number(name: string): number | undefined {
    const value = this.get(name);
    return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : undefined;
  }

  /** The first value as an exact integer. `undefined` where it is none. */
  bigint(name: string): bigint | undefined {
    const value = this.get(name);
    if (typeof value === 'bigint') return value;
    return typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : undefined;
  }

  /** The first value where it is text. */
  text(name: string): string | undefined {
    const value = this.get(name);
    return typeof value === 'string' ? value : undefined;
  }
}
