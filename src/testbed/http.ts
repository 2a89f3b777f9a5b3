import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { readyLine } from './link.ts';
import { spawnIn, type Place } from './enter.ts';
import type { HttpAnswer, TestbedProcess } from './types.ts';

/** One request per line of standard input, one answer per line of standard output; ends with its input. */
const helperProgram = String.raw`
const http = require('node:http');
process.stdout.write('ready\n');
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, host, port, path, timeoutMs } = JSON.parse(line);
  let answered = false;
  const answer = (body) => { if (!answered) { answered = true; process.stdout.write(JSON.stringify({ id, ...body }) + '\n'); } };
  const request = http.get({ host, port, path, agent: false }, (response) => {
    const chunks = []; let size = 0;
    response.on('data', (chunk) => { size += chunk.length; if (size <= 4194304) chunks.push(chunk); });
    response.on('end', () => answer({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
    response.on('error', (error) => answer({ error: error.message }));
  });
  const timer = setTimeout(() => { answer({ error: 'no answer in ' + timeoutMs + ' ms' }); request.destroy(); }, timeoutMs);
  request.on('close', () => clearTimeout(timer));
  request.on('error', (error) => answer({ error: error.message }));
}).on('close', () => process.exit(0));
`;

interface Reply {
  readonly id: number;
  readonly status?: number;
  readonly body?: string;
  readonly error?: string;
}

/** Requests from the switch's network, through one small process there that is started at the first of them. */
export class HttpFromSwitch {
  readonly #place: Place;
  #helper: Promise<TestbedProcess> | undefined;
  #next = 0;
  readonly #waiting = new Map<number, (reply: Reply) => void>();

  constructor(place: Place) {
    this.#place = place;
  }

  async get(host: string, port: number, path: string, timeoutMs: number): Promise<HttpAnswer> {
    const helper = await (this.#helper ??= this.#start());
    const id = ++this.#next;
    const reply = await new Promise<Reply>((resolve) => {
      this.#waiting.set(id, resolve);
      helper.stdin.write(`${JSON.stringify({ id, host, port, path, timeoutMs })}\n`);
    });
    if (reply.status === undefined) throw new Error(`GET http://${host}:${port}${path}: ${reply.error ?? 'no answer'}`);
    return { status: reply.status, body: reply.body ?? '' };
  }

  async stop(): Promise<void> {
    const helper = await this.#helper?.catch(() => undefined);
    helper?.kill('SIGKILL');
    await helper?.exited;
  }

  async #start(): Promise<TestbedProcess> {
    const helper = await spawnIn(this.#place, [process.execPath, '-e', helperProgram]);
    await readyLine(helper, 'the HTTP helper');
    createInterface({ input: helper.stdout as Readable }).on('line', (line) => {
      const reply = JSON.parse(line) as Reply;
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    void helper.exited.then(() => {
      this.#helper = undefined;
      for (const [id, resolve] of this.#waiting) resolve({ id, error: 'the HTTP helper has ended' });
      this.#waiting.clear();
    });
    return helper;
  }
}
