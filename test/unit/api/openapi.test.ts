import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openApi } from '../../../src/api/openapi.ts';
import { routes, type Route } from '../../../src/api/routes.ts';
import { newValidator } from '../../../src/controller/http/validate.ts';

type Json = { readonly [key: string]: unknown };
const document = JSON.parse(JSON.stringify(openApi('1.2.3'))) as Json;
const paths = document['paths'] as Record<string, Record<string, Json>>;
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

function* refs(value: unknown): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, each] of Object.entries(value)) {
    if (key === '$ref') yield String(each);
    else yield* refs(each);
  }
}

test('every route is in the document, under its own name and with its path parameters', () => {
  assert.equal(document['openapi'], '3.1.0');
  const ids = operations.map(({ operation }) => String(operation['operationId']));
  assert.deepEqual(ids.sort(), Object.keys(routes).sort());
  for (const { path, operation } of operations) {
    const declared = ((operation['parameters'] ?? []) as Json[]).filter((each) => each['in'] === 'path');
    assert.deepEqual(
      declared.map((each) => `{${String(each['name'])}}`),
      path.match(/\{\w+\}/g) ?? [],
      path,
    );
    assert.ok(Object.keys(operation['responses'] as Json).includes('default'));
  }
});

test('every reference leads somewhere, and every schema can be compiled', () => {
  const { schemas } = document['components'] as { schemas: Record<string, Json> };
  const ajv = newValidator();
  for (const [name, schema] of Object.entries(schemas)) ajv.addSchema(schema, `#/components/schemas/${name}`);
  for (const ref of new Set(refs(document))) {
    assert.ok(ref.startsWith('#/components/schemas/'), ref);
    assert.ok(Object.hasOwn(schemas, ref.replace('#/components/schemas/', '')), ref);
  }
  for (const route of Object.values(routes) as Route[])
    for (const schema of [route.query, route.body, route.answer]) if (schema) assert.ok(newValidator().compile(schema));
});

test('no operation has a body where HTTP gives it no meaning', () => {
  for (const { method, path, operation } of operations)
    if (['get', 'head', 'delete'].includes(method)) assert.equal(operation['requestBody'], undefined, path);
});
