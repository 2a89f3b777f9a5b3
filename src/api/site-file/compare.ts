/** Comparing what a file says with what is. A field that the file leaves out is left as it is. */
import type { Difference } from './plan.ts';
import type { Labels } from './types.ts';

/** MiB as a site file writes it: `512M`, `2G`; reads back exactly. */
export function sizeText(mib: number): string {
  if (mib % 1024 ** 2 === 0) return `${mib / 1024 ** 2}T`;
  return mib % 1024 === 0 ? `${mib / 1024}G` : `${mib}M`;
}

/** Collects differences of one object. */
export class Differences {
  readonly found: Difference[] = [];

  /** `wanted` undefined: the file says nothing. `actual` undefined: it is not set. */
  compare(field: string, wanted: string | undefined, actual: string | undefined, fixed = false): void {
    if (wanted === undefined || wanted === actual) return;
    this.found.push({
      field,
      new: wanted,
      ...(actual === undefined ? {} : { old: actual }),
      ...(fixed ? { fixed: true as const } : {}),
    });
  }

  number(field: string, wanted: number | undefined, actual: number | undefined, fixed = false): void {
    this.compare(field, wanted?.toString(), actual?.toString(), fixed);
  }

  size(field: string, wanted: number | undefined, actual: number | undefined, fixed = false): void {
    this.compare(
      field,
      wanted === undefined ? undefined : sizeText(wanted),
      actual === undefined ? undefined : sizeText(actual),
      fixed,
    );
  }

  list(field: string, wanted: readonly string[] | undefined, actual: readonly string[], fixed = false): void {
    if (
      wanted === undefined ||
      (wanted.length === actual.length && wanted.every((each, index) => each === actual[index]))
    )
      return;
    this.found.push({
      field,
      old: `[${actual.join(', ')}]`,
      new: `[${wanted.join(', ')}]`,
      ...(fixed ? { fixed: true as const } : {}),
    });
  }

  /** Set where given, with nothing beside it. */
  gone(field: string, actual: string | undefined): void {
    if (actual !== undefined) this.found.push({ field, old: actual, fixed: true });
  }

  labels(wanted: Labels | undefined, actual: Labels, fixed = false): void {
    if (!wanted) return;
    for (const key of new Set([...Object.keys(actual), ...Object.keys(wanted)])) {
      const to = Object.hasOwn(wanted, key) ? wanted[key] : undefined;
      const from = Object.hasOwn(actual, key) ? actual[key] : undefined;
      if (to === from) continue;
      const mark = fixed ? { fixed: true as const } : {};
      this.found.push({
        field: `labels.${key}`,
        ...(from === undefined ? {} : { old: from }),
        ...(to === undefined ? {} : { new: to }),
        ...mark,
      });
    }
  }
}

/** Labels as a change: what is to go is null. Undefined when nothing is to be done. */
export function labelChange(wanted: Labels | undefined, actual: Labels): Record<string, string | null> | undefined {
  if (!wanted) return undefined;
  const change: Record<string, string | null> = {};
  for (const [key, value] of Object.entries(wanted))
    if (!Object.hasOwn(actual, key) || actual[key] !== value) change[key] = value;
  for (const key of Object.keys(actual)) if (!Object.hasOwn(wanted, key)) change[key] = null;
  return Object.keys(change).length > 0 ? change : undefined;
}

/** The object without what is undefined; for requests, whose fields are there or not. */
export function given<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** As `given`, or undefined when nothing is left. */
export function some<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } | undefined {
  const left = given(value);
  return Object.keys(left).length > 0 ? left : undefined;
}

/** The wanted value where it differs. */
export const changed = <T>(wanted: T | undefined, actual: T | undefined): T | undefined =>
  wanted === undefined || wanted === actual ? undefined : wanted;
