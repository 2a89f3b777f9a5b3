/**
 * A program that speaks to a controller as an agent does, with credentials and protocols of the caller's choice. Runs
 * inside a simulated host. Arguments: credentials file, lowest and highest protocol. Prints one line of JSON: how the
 * link ended.
 */
import { readFileSync } from 'node:fs';
import { webSocket, type Credentials } from '../../../src/agent/tls.ts';

const [, , file = '', lowest = '', highest = ''] = process.argv;
const credentials = JSON.parse(readFileSync(file, 'utf8')) as Credentials;
const socket = webSocket(credentials, '/agent/v1/link', { handshakeTimeout: 5000, maxPayload: 1024 * 1024 });
const told: unknown[] = [];

function end(how: object): void {
  process.stdout.write(`${JSON.stringify({ told, ...how })}\n`, () => process.exit(0));
}

socket.on('unexpected-response', (_request, response) => {
  let text = '';
  response.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')));
  response.once('end', () => end({ status: response.statusCode, answer: JSON.parse(text) as unknown }));
});
socket.on('error', (error) => end({ failed: error.message }));
socket.on('message', (data) => told.push(JSON.parse((data as Buffer).toString('utf8'))));
socket.on('close', (code, reason) => end({ code, reason: reason.toString() }));
socket.on('open', () => {
  const session = { number: 1, id: '0e5f1c1e-3d7a-4f0e-8a53-8f0e0e7f6a01' };
  const protocols = { protocolMin: Number(lowest), protocolMax: Number(highest) };
  socket.send(JSON.stringify({ type: 'hello', agentVersion: '99.0.0', ...protocols, session }));
});
