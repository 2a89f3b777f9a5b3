/**
 * Documents as the API shows them: instants (keys that end in `At`, milliseconds) become RFC 3339, secrets are left out.
 * The bytes that go out are made and kept in `src/controller/http/lists.ts`.
 */

/** `order`: what a host remembers of a stray, with user data that only a guest's own document shows. */
const hidden = new Set(['secretHash', 'order']);

/** The type of a presented document. */
export type Presented<T> = T extends readonly (infer E)[]
  ? readonly Presented<E>[]
  : T extends object
    ? {
        [K in keyof T as K extends 'secretHash' | 'order' ? never : K]: K extends `${string}At`
          ? string
          : Presented<T[K]>;
      }
    : T;

function convert(key: string, value: unknown): unknown {
  if (typeof value === 'number' && key.endsWith('At')) return new Date(value).toISOString();
  if (Array.isArray(value)) return value.map((each) => convert('', each));
  if (typeof value === 'object' && value !== null) return presentObject(value as Record<string, unknown>);
  return value;
}

function presentObject(document: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(document)) {
    const value = document[key];
    if (value === undefined || hidden.has(key)) continue;
    // Label keys are the user's own; they are text and must not be taken for instants.
    out[key] = key === 'labels' || key === 'evidence' ? value : convert(key, value);
  }
  return out;
}

/** A document or any plain record of ours, as the API shows it. */
export function present<T extends object>(document: T): Presented<T> {
  return presentObject(document as Record<string, unknown>) as Presented<T>;
}

/** The ETag of a document: its revision, quoted. */
export const etag = (document: { readonly revision: number }): string => `"${document.revision}"`;

/** The revision in an If-Match header; `undefined` for `*` or none; NaN when it is not one of ours. */
export function revisionOf(header: string | undefined): number | undefined {
  if (header === undefined || header === '*') return undefined;
  const match = /^(?:W\/)?"(\d+)"$/.exec(header.trim());
  return match ? Number(match[1]) : Number.NaN;
}
