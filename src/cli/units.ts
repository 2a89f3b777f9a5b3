/** Sizes, durations and labels as people type and read them. */
import { usage } from './failure.ts';

const powers: Readonly<Record<string, number>> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };

/** `512M`, `2G`, `1.5GiB` → MiB. All units are powers of 1024. */
export function parseMiB(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?$/i.exec(text.trim());
  if (!match) {
    const hint = /^\d+$/.test(text.trim()) ? ': say the unit' : '';
    throw usage(`"${text}" is not a size${hint}; write 512M or 2G (powers of 1024)`);
  }
  const mib = (Number(match[1]) * (powers[(match[2] ?? '').toUpperCase()] ?? 0)) / 1024 ** 2;
  if (!Number.isInteger(mib) || mib < 1) throw usage(`"${text}" is not a whole number of MiB; write 512M or 2G`);
  if (mib > 1 << 30) throw usage(`"${text}" is more than 1024T`);
  return mib;
}

const seconds: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** `60`, `60s`, `5m`, `1h30m`, `90d` → seconds. */
export function parseSeconds(text: string): number {
  const value = text.trim();
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  const parts = [...value.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)];
  if (parts.length === 0 || parts.map((each) => each[0]).join('') !== value)
    throw usage(`"${text}" is not a duration; write 60s, 5m, 2h or 90d`);
  return parts.reduce((sum, each) => sum + Number(each[1]) * (seconds[each[2] ?? ''] ?? 0), 0);
}

/** A whole number, with the name of the option in the complaint. */
export function parseWhole(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw usage(`"${text}" is not a whole number from ${least} to ${most}`);
    return value;
  };
}

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) throw usage(`"${text}" is not a positive number`);
  return value;
}

/** Collects a repeated option. */
export const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

/** `KEY=VALUE` … → record; twice the same key is a mistake. */
export function parseLabels(pairs: readonly string[] | undefined): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const pair of pairs ?? []) {
    const at = pair.indexOf('=');
    if (at < 1) throw usage(`"${pair}" is not a label; write KEY=VALUE`);
    const key = pair.slice(0, at);
    if (Object.hasOwn(labels, key)) throw usage(`the label "${key}" is given twice`);
    labels[key] = pair.slice(at + 1);
  }
  return labels;
}

/** `KEY=VALUE` sets, `KEY-` removes. */
export function parseLabelChanges(changes: readonly string[] | undefined): Record<string, string | null> {
  const labels: Record<string, string | null> = {};
  for (const each of changes ?? []) {
    if (/^[^=]+-$/.test(each)) labels[each.slice(0, -1)] = null;
    else Object.assign(labels, parseLabels([each]));
  }
  return labels;
}

const steps = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes for people: `1.5 GiB`. */
export function bytes(count: number): string {
  let value = count;
  let step = 0;
  while (value >= 1024 && step < steps.length - 1) {
    value /= 1024;
    step += 1;
  }
  const digits = step === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${steps[step] ?? 'B'}`;
}

export const mib = (count: number): string => bytes(count * 1024 ** 2);

/** `3 s`, `5 min`, `2 h`, `12 d`; the largest unit that fits. */
export function span(ms: number): string {
  const total = Math.max(0, Math.round(ms / 1000));
  if (total < 100) return `${total} s`;
  if (total < 100 * 60) return `${Math.round(total / 60)} min`;
  if (total < 48 * 3600) return `${Math.round(total / 3600)} h`;
  return `${Math.round(total / 86_400)} d`;
}

/** An instant for people, relative to now. */
export function ago(at: string | undefined, now: number = Date.now()): string {
  if (at === undefined) return '-';
  const ms = now - Date.parse(at);
  if (Number.isNaN(ms)) return at;
  return ms >= -1000 ? `${span(ms)} ago` : `in ${span(-ms)}`;
}

/** `labels` as `a=b,c=d`. */
export const labelText = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '-';

export const counted = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`;
