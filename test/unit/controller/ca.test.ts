import 'reflect-metadata';
import assert from 'node:assert/strict';
import { generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as x509 from '@peculiar/x509';
import { Authority, authorityFiles, ownNames } from '../../../src/controller/ca.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import { siteId } from './kit.ts';

let folder: string;
let authority: Authority;
const now = Date.now();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virga-ca-'));
  authority = await Authority.create(folder, siteId, 'test', now);
});
after(async () => rm(folder, { recursive: true, force: true }));

type Algorithm = webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams;

async function csr(algorithm: Algorithm, signing: { readonly name: string; readonly hash: string }): Promise<string> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: ['root'] }, { O: ['somebody else'] }],
    keys,
    signingAlgorithm: signing,
  });
  return request.toString('pem');
}
const p256 = async (): Promise<string> =>
  csr({ name: 'ECDSA', namedCurve: 'P-256' }, { name: 'ECDSA', hash: 'SHA-256' });
const invalid = (error: unknown): boolean => error instanceof VirgaError && error.code === 'invalid_request';

test('the key is for its owner only, and what was written is read again', async () => {
  assert.equal((await stat(join(folder, authorityFiles.key))).mode & 0o777, 0o600);
  const again = await Authority.read(folder);
  assert.equal(again?.pin, authority.pin);
  assert.equal(again?.siteId, siteId);
  assert.equal(await Authority.read(join(folder, 'nothing')), undefined);
});

test('the site decides who a host is, not its request', async () => {
  const hostId = '22222222-2222-4222-8222-222222222222';
  const issued = await authority.signHost(await p256(), hostId, now);
  const certificate = new X509Certificate(issued.certificate);
  assert.equal(certificate.subject, `CN=${hostId}\nO=${siteId}`);
  assert.ok(certificate.verify(new X509Certificate(authority.pem).publicKey));
  assert.equal(certificate.ca, false);
  assert.equal(certificate.serialNumber.toLowerCase(), issued.serial);
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  assert.equal(Math.round((issued.expiresAt - now) / 86_400_000), 90);
});

test('requests that are broken, forged or weak are refused', async () => {
  const good = await p256();
  await assert.rejects(authority.signHost('no request', 'x', now), invalid);
  const lines = good.split('\n');
  const middle = lines[3] ?? '';
  lines[3] = (middle.startsWith('A') ? 'B' : 'A') + middle.slice(1);
  await assert.rejects(authority.signHost(lines.join('\n'), 'x', now), invalid);
  const weak: Algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength: 1024,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  };
  await assert.rejects(
    async () => authority.signHost(await csr(weak, { name: weak.name, hash: 'SHA-256' }), 'x', now),
    invalid,
  );
});

test('the server certificate names where it may be reached, and ends with the authority at the latest', async () => {
  const names = ownNames(['virga.example.org', '192.0.2.7', '0.0.0.0']);
  const identity = await authority.serverIdentity(names, now);
  const certificate = new X509Certificate(identity.certificate);
  assert.ok(certificate.checkHost('virga.example.org'));
  assert.ok(certificate.checkHost('localhost'));
  assert.ok(certificate.checkIP('192.0.2.7'));
  assert.ok(!certificate.subjectAltName?.includes('0.0.0.0'));
  const late = await authority.serverIdentity(['localhost'], now + 3640 * 86_400_000);
  assert.equal(late.expiresAt, new Date(new X509Certificate(authority.pem).validTo).getTime());
});

test('a secret belongs to its purpose and object, and to this authority', async () => {
  const secret = authority.secretFor('invite', 'a');
  assert.match(secret, /^[A-Za-z0-9_-]{43}$/);
  assert.equal((await Authority.read(folder))?.secretFor('invite', 'a'), secret);
  assert.notEqual(authority.secretFor('invite', 'b'), secret);
  assert.notEqual(authority.secretFor('other', 'a'), secret);
});

test('a key that is not the certificate’s is noticed', async () => {
  const other = await mkdtemp(join(tmpdir(), 'virga-ca-'));
  try {
    await Authority.create(other, siteId, 'test', now);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await writeFile(join(other, authorityFiles.key), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await assert.rejects(
      Authority.read(other),
      (error: unknown) => error instanceof VirgaError && error.code === 'setup',
    );
  } finally {
    await rm(other, { recursive: true, force: true });
  }
});
