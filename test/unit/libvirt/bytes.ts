/** Bytes written as hexadecimal, with spaces, line breaks and comments (`# …` to the end of the line). */
export function hex(text: string): Buffer {
  const digits = text.replaceAll(/#.*$/gm, '').replaceAll(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hexadecimal: ${digits}`);
  return Buffer.from(digits, 'hex');
}

/** A word of 32 bits, big-endian, as hexadecimal. */
export function word(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

/** A frame: the length is computed, the words are program, version, procedure, type, serial, status. */
export function frame(header: string, body: Buffer = Buffer.alloc(0)): Buffer {
  const words = hex(header);
  return Buffer.concat([hex(word(4 + words.length + body.length)), words, body]);
}
