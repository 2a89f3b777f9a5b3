/**
 * The API reference on the machine's loopback, for a controller that listens only inside a testbed. Forwards what needs
 * no credentials (the reference, the OpenAPI document, health) to the controller's unix socket; nothing else.
 */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ReferenceServer {
  readonly url: string;
  close(): Promise<void>;
}

const open = new Set(['/reference', '/openapi.json', '/healthz', '/readyz']);

export async function serveReference(socketPath: string): Promise<ReferenceServer> {
  const server = createServer((incoming, outgoing) => {
    const path = (incoming.url ?? '/').split('?')[0] ?? '/';
    if (incoming.method !== 'GET' || !open.has(path)) {
      outgoing.writeHead(path === '/' ? 302 : 404, path === '/' ? { location: '/reference' } : {}).end();
      return;
    }
    const forwarded = request({ socketPath, path, timeout: 10_000 }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.once('error', () => outgoing.writeHead(502).end('the controller does not answer'));
    forwarded.end();
  });
  await new Promise<void>((done, refuse) => {
    server.once('error', refuse);
    server.listen(0, '127.0.0.1', done);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/reference`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
