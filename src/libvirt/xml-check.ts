/**
 * What the XML library lets pass although it is not well-formed, or that we refuse on principle: control characters,
 * bare ampersands, DOCTYPE. One linear scan, before the library sees the document.
 */

// The characters of XML 1.0, production [2] Char; with the u flag a lone surrogate matches none of the ranges.
const NOT_XML_CHAR = /[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/u;
const REFERENCE = /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|amp|lt|gt|quot|apos);|&/g;

/** Whether XML 1.0 can carry this text. */
export function isXmlChars(value: string): boolean {
  return !NOT_XML_CHAR.test(value);
}

/** The fault of a document in words, or `undefined` where this scan finds none. */
export function checkXmlText(input: string): string | undefined {
  if (!isXmlChars(input)) return 'a character that XML cannot carry';
  let from = 0;
  for (;;) {
    const open = nextSection(input, from);
    const fault = checkMarkup(input.slice(from, open?.start));
    if (fault !== undefined || open === undefined) return fault;
    const end = input.indexOf(open.close, open.start + open.open.length);
    if (end < 0) return `${open.open} is never closed`;
    from = end + open.close.length;
  }
}

/** Sections whose content is no markup: an ampersand or `<!DOCTYPE` within is text. */
const SECTIONS = [
  { open: '<!--', close: '-->' },
  { open: '<![CDATA[', close: ']]>' },
  { open: '<?', close: '?>' },
] as const;
const SECTION_START = /<!--|<!\[CDATA\[|<\?/g;

function nextSection(input: string, from: number): { start: number; open: string; close: string } | undefined {
  SECTION_START.lastIndex = from;
  const match = SECTION_START.exec(input);
  const section = SECTIONS.find(({ open }) => open === match?.[0]);
  return match === null || section === undefined ? undefined : { start: match.index, ...section };
}

function checkMarkup(markup: string): string | undefined {
  if (/<!/.test(markup)) return 'DOCTYPE and other declarations are not accepted';
  for (const [whole, decimal, hex] of markup.matchAll(REFERENCE)) {
    if (whole === '&') return 'an ampersand that starts none of the five built-in entities';
    const code = decimal === undefined ? hex && parseInt(hex, 16) : parseInt(decimal, 10);
    if (typeof code === 'number' && (code > 0x10ffff || !isXmlChars(String.fromCodePoint(code)))) {
      return `${whole} stands for a character that XML cannot carry`;
    }
  }
  return undefined;
}
