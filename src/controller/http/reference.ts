/** The API reference as one page, made from the route table. No script, nothing from elsewhere. */
import { createHash } from 'node:crypto';
import { routes, type Operation, type Route } from '../../api/routes.ts';
import { errorRegistry } from '../../core/errors.ts';

const style = `:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 20%,transparent);--soft:color-mix(in srgb,currentColor 6%,transparent)}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem}code,pre{font:14px/1.45 ui-monospace,monospace}
article{border:1px solid var(--line);border-radius:.4rem;margin:1rem 0;padding:.6rem 1rem;overflow-wrap:anywhere}
article p{margin:.3rem 0}.role{float:right;opacity:.7;font-size:.85rem}
pre{background:var(--soft);padding:.6rem;overflow-x:auto;border-radius:.3rem;max-height:24rem}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
summary{cursor:pointer}@media(max-width:40rem){.role{float:none;display:block}}`;

/** Only this one style sheet, by its digest; everything else is forbidden. */
export const referencePolicy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const text = (value: string): string => value.replaceAll(/[&<>"]/g, (each) => escapes[each] ?? each);

function schemaBlock(title: string, schema: unknown): string {
  if (schema === undefined) return '';
  return `<details><summary>${title}</summary><pre>${text(JSON.stringify(schema, null, 2))}</pre></details>`;
}

function article(id: string, route: Route): string {
  const role = route.open === true ? 'no credentials' : route.change === true ? 'role admin' : 'role read';
  const commands = route.cli.map((each) => `<code>virga ${text(each)}</code>`).join(', ');
  const kind = {
    events: 'Server-sent events.',
    bytes: 'Bytes.',
    text: 'Text.',
    websocket: 'WebSocket; binary messages.',
  };
  return `<article id="${id}"><span class="role">${role}</span>
<p><code><b>${route.method}</b> ${text(route.path)}</code> → ${route.status}</p>
<p>${text(route.summary)}.${route.stream ? ` ${kind[route.stream]}` : ''}${route.idempotent === true ? ' Takes Idempotency-Key.' : ''}</p>
${commands === '' ? '' : `<p>${commands}</p>`}
${schemaBlock('Query', route.query)}${schemaBlock('Body', route.body)}${schemaBlock('Answer', route.answer)}</article>`;
}

export function referencePage(version: string): string {
  const all = Object.entries(routes) as [Operation, Route][];
  const tags = [...new Set(all.map(([, route]) => route.tag))];
  const sections = tags.map((tag) => {
    const own = all.filter(([, route]) => route.tag === tag);
    return `<h2 id="${tag}">${tag}</h2>${own.map(([id, route]) => article(id, route)).join('\n')}`;
  });
  const errors = Object.entries(errorRegistry).map(
    ([code, { status, message, hint }]) =>
      `<tr><td><code>${code}</code></td><td>${status}</td><td>${text(message)}</td><td>${text(hint)}</td></tr>`,
  );
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Virga API reference</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>${style}</style></head><body>
<h1>Virga API reference <small>${text(version)}</small></h1>
<p>On the controller’s machine over the unix socket; from elsewhere over TLS with <code>Authorization: Bearer vgt1.…</code>.
The same as <a href="/openapi.json">OpenAPI 3.1</a>. Objects carry an <code>ETag</code>; a change with <code>If-Match</code> is refused when the object has moved on.
<code>Virga-Reason</code> (percent-encoded) says why.</p>
<nav>${tags.map((tag) => `<a href="#${tag}">${tag}</a>`).join('')}<a href="#errors">errors</a></nav>
${sections.join('\n')}
<h2 id="errors">errors</h2><p>Every error is <code>{"error":{"code","message","hint","values"}}</code>.</p>
<table><tr><th>code</th><th>status</th><th>message</th><th>hint</th></tr>${errors.join('\n')}</table></body></html>`;
}
