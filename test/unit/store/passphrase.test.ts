import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Decrypter, Encrypter, Stanza } from 'age-encryption';
import { passphraseIdentity, passphraseRecipient } from '../../../src/controller/store/passphrase.ts';

it('makes files that age itself opens, and opens those of age', async () => {
  const encrypter = new Encrypter();
  encrypter.addRecipient(passphraseRecipient('correct horse ä'));
  const decrypter = new Decrypter();
  decrypter.addPassphrase('correct horse ä');
  assert.equal(await decrypter.decrypt(await encrypter.encrypt('secret'), 'text'), 'secret');

  const theirs = new Encrypter();
  theirs.setScryptWorkFactor(10);
  theirs.setPassphrase('correct horse ä');
  const ours = new Decrypter();
  ours.addIdentity(passphraseIdentity('correct horse ä'));
  const file = await theirs.encrypt('secret');
  assert.equal(await ours.decrypt(file, 'text'), 'secret');
  const wrong = new Decrypter();
  wrong.addIdentity(passphraseIdentity('correct horse a'));
  await assert.rejects(wrong.decrypt(file, 'text'));
});

it('refuses stanzas that ask for too much work or are not well formed', async () => {
  const identity = passphraseIdentity('x');
  const salt = 'A'.repeat(22);
  const body = new Uint8Array(32);
  const bad = [
    [new Stanza(['scrypt', salt, '21'], body)],
    [new Stanza(['scrypt', salt, '010'], body)],
    [new Stanza(['scrypt', 'short', '10'], body)],
    [new Stanza(['scrypt', salt, '10'], new Uint8Array(31))],
    [new Stanza(['scrypt', salt, '10'], body), new Stanza(['X25519', salt], body)],
  ];
  for (const stanzas of bad) await assert.rejects(async () => identity.unwrapFileKey(stanzas), /invalid scrypt stanza/);
  assert.equal(await identity.unwrapFileKey([new Stanza(['X25519', salt], body)]), null);
});
