import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { errorFromBody, errorRegistry, VirgaError, type ErrorCode } from '../../../src/api/errors.ts';

const root = resolve(import.meta.dirname, '../../..');

interface Use {
  readonly where: string;
  readonly code: ErrorCode;
  /** Text of the object literal with the values; undefined when they come from elsewhere. */
  readonly values: string | undefined;
}

/** The text from an opening brace to its partner. Braces within our templates are balanced, too. */
function literalAt(text: string, from: number): string {
  let depth = 0;
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '{') depth += 1;
    if (text[at] === '}') depth -= 1;
    if (depth === 0) return text.slice(from, at + 1);
  }
  return text.slice(from);
}

function uses(): Use[] {
  return globSync('src/**/*.ts', { cwd: root }).flatMap((path) => {
    const text = readFileSync(resolve(root, path), 'utf8');
    return [...text.matchAll(/new VirgaError\(\s*'(\w+)'\s*(,\s*\{|,|\))/g)].map((match) => {
      const line = text.slice(0, match.index).split('\n').length;
      const after = match.index + match[0].length;
      const values = match[2]?.endsWith('{') ? literalAt(text, after - 1) : match[2] === ')' ? '' : undefined;
      return { where: `${path}:${line}`, code: match[1] as ErrorCode, values };
    });
  });
}

test('wherever an error is made, every word of its message and hint is given', () => {
  const found = uses();
  assert.ok(found.length > 100, `only ${found.length} uses were found`);
  const wrong: string[] = [];
  for (const { where, code, values } of found) {
    if (!Object.hasOwn(errorRegistry, code)) {
      wrong.push(`${where}: there is no code ${code}`);
      continue;
    }
    if (values === undefined || values.includes('...')) continue;
    const { message, hint } = errorRegistry[code];
    for (const [, key] of `${message} ${hint}`.matchAll(/\{(\w+)\}/g))
      if (!new RegExp(`\\b${key}\\b\\s*[:,}]`).test(values)) wrong.push(`${where}: ${code} needs ${key}`);
  }
  assert.deepEqual(wrong, []);
});

test('an error survives its way over the wire', () => {
  const sent = new VirgaError('stale', { kind: 'guest', name: 'web', given: '"1"', actual: '"2"' });
  const received = errorFromBody(JSON.parse(JSON.stringify(sent.toBody())));
  assert.equal(received?.message, sent.message);
  assert.equal(received?.hint, sent.hint);
  assert.equal(received?.status, 412);
  assert.equal(errorFromBody({ error: { code: 'made_up' } }), undefined);
  assert.equal(errorFromBody('no JSON object'), undefined);
});

test('a cause goes to the log, never to a person', () => {
  const error = new VirgaError('store_unavailable', { detail: 'gone' }, { cause: new Error('secret path') });
  assert.ok(!JSON.stringify(error.toBody()).includes('secret'));
});
