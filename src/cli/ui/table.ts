/** Tables that fit the terminal: the widest columns give way, names are cut with an ellipsis. */
import { plain } from '../failure.ts';
import { toneOf, type Paint, type Tone } from './style.ts';

export interface Column<T> {
  readonly title: string;
  readonly value: (row: T) => string;
  /** `state`: coloured by its own word. */
  readonly tone?: Tone | 'state';
  readonly right?: true;
  /** Shown only with `--output wide`. */
  readonly wide?: true;
}

/** Width on the screen; wide (East Asian) characters count two, combining marks none. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (/\p{M}/u.test(character)) continue;
    const wide =
      (code >= 0x1100 && code <= 0x115f) ||
      (code >= 0x2e80 && code <= 0xa4cf) ||
      (code >= 0xac00 && code <= 0xd7a3) ||
      (code >= 0xf900 && code <= 0xfaff) ||
      (code >= 0xfe30 && code <= 0xfe6f) ||
      (code >= 0xff00 && code <= 0xff60) ||
      (code >= 0x1f300 && code <= 0x1faff);
    width += wide ? 2 : 1;
  }
  return width;
}

/** Cuts to a width, with an ellipsis. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  if (width < 1) return '';
  let out = '';
  let used = 0;
  for (const character of text) {
    const next = widthOf(character);
    if (used + next > width - 1) break;
    out += character;
    used += next;
  }
  return `${out}…`;
}

export function pad(text: string, width: number, right = false): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)));
  return right ? space + text : text + space;
}

const gap = 2;
const narrowest = 6;

/** Column widths within `total`: the widest column gives way first, none below `narrowest`. */
export function fit(natural: readonly number[], total: number): number[] {
  const widths = [...natural];
  let over = widths.reduce((sum, each) => sum + each, 0) + gap * (widths.length - 1) - total;
  while (over > 0) {
    const widest = Math.max(...widths);
    if (widest <= narrowest) break;
    widths[widths.indexOf(widest)] = widest - 1;
    over -= 1;
  }
  return widths;
}

/** Lines of a table. `width` undefined: as wide as it is. */
export function table<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  options: { readonly width?: number | undefined; readonly paint: Paint },
): string[] {
  const cells = rows.map((row) => columns.map((column) => plain(column.value(row)).replaceAll(/[\n\t]/g, ' ')));
  const natural = columns.map((column, index) =>
    cells.reduce((most, row) => Math.max(most, widthOf(row[index] ?? '')), widthOf(column.title)),
  );
  const widths = options.width === undefined ? natural : fit(natural, options.width);
  const line = (texts: readonly string[], tone: (index: number) => Tone): string =>
    texts
      .map((text, index) => {
        const width = widths[index] ?? 0;
        const shown = cut(text, width);
        const last = index === texts.length - 1 && columns[index]?.right !== true;
        return options.paint(tone(index), last ? shown : pad(shown, width, columns[index]?.right));
      })
      .join(' '.repeat(gap))
      .trimEnd();
  const toneAt = (row: readonly string[], index: number): Tone => {
    const tone = columns[index]?.tone ?? 'plain';
    return tone === 'state' ? toneOf(row[index]?.split(' ')[0] ?? '') : tone;
  };
  return [
    line(
      columns.map((each) => each.title),
      () => 'bold',
    ),
    ...cells.map((row) => line(row, (index) => toneAt(row, index))),
  ];
}

/** `KEY  value` lines; entries without a value are left out. */
export function facts(entries: readonly (readonly [string, string | undefined])[], paint: Paint): string[] {
  const shown = entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined);
  const width = shown.reduce((most, [key]) => Math.max(most, widthOf(key)), 0);
  return shown.map(([key, value]) => {
    const lines = plain(value).split('\n');
    return lines
      .map((text, index) => `${index === 0 ? paint('bold', pad(key, width)) : ' '.repeat(width)}  ${text}`)
      .join('\n');
  });
}
