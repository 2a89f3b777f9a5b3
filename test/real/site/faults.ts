/** Ways to break a site that need more than one line. */
import { execFile } from 'node:child_process';
import { webcrypto } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

const execFileNow = promisify(execFile);

/** Runs a command of this machine; throws with its own words when it fails. */
export async function run(command: string, args: readonly string[]): Promise<string> {
  return (await execFileNow(command, [...args], { timeout: 10_000 })).stdout;
}

/** Process of the site's own PostgreSQL. */
export async function postmasterPid(dataDir: string): Promise<number> {
  const [file] = globSync('**/postmaster.pid', { cwd: dataDir });
  if (file === undefined) throw new Error(`no postmaster.pid below ${dataDir}`);
  return Number(readFileSync(join(dataDir, file), 'utf8').split('\n', 1)[0]);
}

/** SIGKILL to a process and its children, the parent first, so that it cannot tend to them. */
export function killFamily(pid: number): void {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);
  for (const each of [pid, ...children])
    try {
      process.kill(each, 'SIGKILL');
    } catch (error) {
      // One that ended by itself in between is what was wanted.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
}

/** A key and a request to sign it, as an agent makes them. */
export async function certificateRequest(): Promise<{ readonly key: string; readonly csr: string }> {
  const curve = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
  const keys = await webcrypto.subtle.generateKey(curve, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=host',
    keys,
    signingAlgorithm: curve,
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), csr: request.toString('pem') };
}
