/** The page `docs/reference/api.md`, made from the route table and its schemas. */
import type { Route } from '../api/routes.ts';

interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly SchemaNode[];
  readonly items?: SchemaNode;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly description?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly maxItems?: number;
}

/** A schema's type in words: `integer`, `"on" or "off"`, `list of text`. */
function typeText(node: SchemaNode): string {
  if (node.const !== undefined) return JSON.stringify(node.const);
  if (node.enum) return node.enum.map((each) => JSON.stringify(each)).join(' or ');
  if (node.anyOf) return node.anyOf.map(typeText).join(' or ');
  if (node.type === 'array') return `list of ${node.items ? typeText(node.items) : 'anything'}`;
  if (node.patternProperties) return `map of ${Object.values(node.patternProperties).map(typeText).join(' or ')}`;
  if (node.type === 'string') return node.format === undefined ? 'text' : node.format;
  return typeof node.type === 'string' ? node.type : 'anything';
}

function limitsText(node: SchemaNode): string {
  const limits = [
    node.minimum === undefined ? undefined : `at least ${node.minimum}`,
    node.maximum === undefined ? undefined : `at most ${node.maximum}`,
    node.maxLength === undefined ? undefined : `at most ${node.maxLength} characters`,
    node.maxItems === undefined ? undefined : `at most ${node.maxItems} items`,
  ].filter((each) => each !== undefined);
  return limits.join(', ');
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

/** Fields of an object, nested ones with their dotted path. */
function fieldRows(node: SchemaNode, path = ''): string[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, field]) => {
    const name = path === '' ? key : `${path}.${key}`;
    const need = node.required?.includes(key) === true ? '' : 'optional';
    const meaning = [field.description ?? '', limitsText(field)].filter((each) => each !== '').join('; ');
    const row = `| \`${name}\` | ${cell(typeText(field))} | ${need} | ${cell(meaning)} |`;
    const inner = field.type === 'array' && field.items ? field.items : field;
    return [row, ...fieldRows(inner, field.type === 'array' ? `${name}[]` : name)];
  });
}

function fields(title: string, schema: unknown): string[] {
  if (schema === undefined) return [];
  const rows = fieldRows(schema as SchemaNode);
  if (rows.length === 0) return [];
  return [`${title}:`, '', '| Field | Type | | Meaning |', '| --- | --- | --- | --- |', ...rows, ''];
}

const streams: Readonly<Record<NonNullable<Route['stream']>, string>> = {
  events: 'Answers with server-sent events (`text/event-stream`); `Last-Event-ID` resumes.',
  bytes: 'Answers with bytes.',
  websocket: 'A WebSocket; bytes travel in binary frames.',
  text: 'Answers with text.',
};

const propertiesOf = (schema: unknown): Readonly<Record<string, SchemaNode>> =>
  (schema as SchemaNode | undefined)?.properties ?? {};

/** Answers that are one of the objects are described once. */
const objectOf = (schema: unknown): string | undefined => {
  const kind = propertiesOf(schema)['kind']?.const;
  return typeof kind === 'string' ? kind : undefined;
};

function routeSection(operation: string, route: Route): string {
  const lines = [
    `### ${operation}`,
    '',
    `\`${route.method} ${route.path}\` → ${route.status}`,
    '',
    `${route.summary}.`,
    '',
  ];
  const notes = [
    route.open ? 'Needs no credentials.' : undefined,
    route.change ? 'Needs the role `admin`.' : undefined,
    route.idempotent ? 'Takes `Idempotency-Key`.' : undefined,
    route.requestBytes ? 'The request body is bytes (`application/octet-stream`).' : undefined,
    route.stream ? streams[route.stream] : undefined,
    route.cli.length > 0 ? `Command line: ${route.cli.map((each) => `\`virga ${each}\``).join(', ')}.` : undefined,
  ].filter((each) => each !== undefined);
  if (notes.length > 0) lines.push(notes.join(' '), '');
  lines.push(...fields('Query', route.query), ...fields('Body', route.body));
  lines.push(...answerText(route.answer));
  return lines.join('\n');
}

function answerText(answer: unknown): string[] {
  const kind = objectOf(answer);
  if (kind !== undefined) return [`Answer: a [${kind}](#object-${kind}).`, ''];
  const items = (answer as SchemaNode | undefined)?.properties?.['items']?.items;
  const listed = objectOf(items);
  if (listed !== undefined) {
    const rest = Object.keys((answer as SchemaNode).properties ?? {}).filter((each) => each !== 'items');
    return [
      `Answer: \`items\`, a list of [${listed}](#object-${listed})${rest.length > 0 ? `, and ${rest.map((each) => `\`${each}\``).join(', ')}` : ''}.`,
      '',
    ];
  }
  return fields('Answer', answer);
}

const titles: Readonly<Record<Route['tag'], string>> = {
  site: 'Site',
  hosts: 'Hosts',
  leases: 'Leases and voters',
  guests: 'Guests',
  images: 'Images',
  networks: 'Networks',
  access: 'Access',
  health: 'Health',
};

type Errors = Readonly<Record<string, { readonly status: number; readonly message: string; readonly hint: string }>>;

const introduction = `# API

Made from the route table and its schemas by \`node src/cli/reference.ts --write\`. A controller serves the same as an
OpenAPI 3.1 document at \`/openapi.json\` and as a page at \`/reference\`.

- On the controller's machine over its unix socket (who you are is your system user), from elsewhere over TLS with
  \`Authorization: Bearer TOKEN\` (\`virga token create\`).
- Paths take names, UUIDs, or the first eight characters or more of a UUID.
- Instants are RFC 3339 in UTC, their fields end in \`At\`; sizes carry their unit in the name (\`memoryMiB\`, \`sizeBytes\`).
- Unknown fields in a request are refused; answers may grow.
- Every object has a \`revision\`, which is its \`ETag\`. A change with \`If-Match\` is refused (412) when the object has changed since.
- \`Idempotency-Key\` on creation: a repeat with the same key and body answers what the first one created.
- \`Virga-Reason\` (percent-encoded UTF-8): why; required on others' objects.
- Lists are pages: \`limit\`, and \`cursor\` from \`next\`. \`label\` selects: \`key=value\`, \`key!=value\` or \`key\`, joined by commas.
- A list's \`revision\` is where to watch from: \`GET /v1/watch?since=REVISION\`. Events are \`put\` with
  \`{"kind","id","object"}\` and \`delete\` with \`{"kind","id","name"}\`; 410 means: read the list again.
- Errors are \`{"error":{"code","message","hint","values"}}\`; the codes are at the end of this page.
`;

/** The page. */
export function apiPage(routes: Readonly<Record<string, Route>>, errors: Errors): string {
  const parts = [introduction];
  const objects = new Map<string, unknown>();
  for (const [tag, title] of Object.entries(titles)) {
    parts.push(`## ${title}`, '');
    for (const [operation, route] of Object.entries(routes)) {
      if (route.tag !== tag) continue;
      const kind = objectOf(route.answer);
      if (kind !== undefined) objects.set(kind, route.answer);
      const made = Object.values(propertiesOf(route.answer));
      for (const each of [...made, ...made.map((one) => one.items)]) {
        const inner = objectOf(each);
        if (inner !== undefined) objects.set(inner, each);
      }
      parts.push(routeSection(operation, route));
    }
  }
  parts.push('## Objects', '');
  for (const [kind, schema] of [...objects].sort(([a], [b]) => (a < b ? -1 : 1)))
    parts.push(`### Object ${kind}`, '', ...fields('Fields', schema));
  parts.push('## Errors', '', '| Code | Status | Message | What to do |', '| --- | --- | --- | --- |');
  for (const [code, { status, message, hint }] of Object.entries(errors))
    parts.push(`| \`${code}\` | ${status} | ${cell(message)} | ${cell(hint)} |`);
  return `${parts.join('\n').trimEnd()}\n`;
}
