/**
 * age's passphrase recipient with the machine's own scrypt, which works on another thread: the one in the age package
 * holds the whole process up for a second, and the controller has better things to do.
 * Source: C2SP, "The age file encryption format", "The scrypt recipient type".
 */
import { type Identity, type Recipient, Stanza } from 'age-encryption';
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify<string, Uint8Array, number, object, Buffer>(scrypt);

const label = 'age-encryption.org/v1/scrypt';
/** Logarithm (base 2) of the cost: 128 MiB of memory and a good part of a second for each guess. */
const workFactor = 17;
/** A file may ask for no more than this: 1 GiB. */
const maxWorkFactor = 20;

const saltBytes = 16;
const fileKeyBytes = 16;
const tagBytes = 16;
/** The key is used once, so the nonce may be constant. */
const nonce = Buffer.alloc(12);

async function keyOf(passphrase: string, salt: Uint8Array, factor: number): Promise<Buffer> {
  const cost = { N: 2 ** factor, r: 8, p: 1, maxmem: 129 * 8 * 2 ** factor };
  return derive(passphrase, Buffer.concat([Buffer.from(label), salt]), 32, cost);
}

/** Must be the only recipient of its file. */
export function passphraseRecipient(passphrase: string): Recipient {
  return {
    async wrapFileKey(fileKey: Uint8Array): Promise<Stanza[]> {
      const salt = randomBytes(saltBytes);
      const cipher = createCipheriv('chacha20-poly1305', await keyOf(passphrase, salt, workFactor), nonce, {
        authTagLength: tagBytes,
      });
      const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
      const args = ['scrypt', salt.toString('base64').replaceAll('=', ''), String(workFactor)];
      return [new Stanza(args, body)];
    },
  };
}

/** Opens any age file that was encrypted with this passphrase, whoever made it. */
export function passphraseIdentity(passphrase: string): Identity {
  return {
    async unwrapFileKey(stanzas: Stanza[]): Promise<Uint8Array | null> {
      const [stanza] = stanzas;
      if (stanza?.args[0] !== 'scrypt') return null;
      const [, salt = '', factor = ''] = stanza.args;
      const wellFormed =
        stanzas.length === 1 &&
        stanza.args.length === 3 &&
        /^[A-Za-z0-9+/]{22}$/.test(salt) &&
        /^[1-9]\d?$/.test(factor) &&
        Number(factor) <= maxWorkFactor &&
        stanza.body.length === fileKeyBytes + tagBytes;
      if (!wellFormed) throw new Error('invalid scrypt stanza');
      const key = await keyOf(passphrase, Buffer.from(salt, 'base64'), Number(factor));
      const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: tagBytes });
      decipher.setAuthTag(stanza.body.subarray(fileKeyBytes));
      try {
        return Buffer.concat([decipher.update(stanza.body.subarray(0, fileKeyBytes)), decipher.final()]);
      } catch {
        return null;
      }
    },
  };
}
