/** Finding out which certificate authority a site has, so that it can be pinned. */
import { X509Certificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { VirgaError } from '../api/errors.ts';
import type { Call } from './call.ts';
import { canAsk, confirm } from './confirm.ts';
import { exitCodes, Failure, usage } from './failure.ts';

interface Met {
  /** True when this machine's own authorities vouch for it. */
  readonly trusted: boolean;
  /** The last certificate of the chain that the site showed. */
  readonly top: X509Certificate;
}

const handshakeMs = 10_000;

/** One TLS handshake; nothing is sent. */
function meet(url: string): Promise<Met> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const fail = (detail: string, cause?: unknown): void => {
      socket.destroy();
      reject(new VirgaError('site_unreachable', { where: url, detail }, { cause }));
    };
    // Nobody is believed here: the answer is looked at, and a person or a fingerprint decides.
    const socket: TLSSocket = connect({
      host,
      port: Number(port || 443),
      servername: /[a-z]/i.test(host) && !host.includes(':') ? host : '',
      rejectUnauthorized: false,
      timeout: handshakeMs,
    });
    socket.once('timeout', () => fail('it did not answer within 10 s'));
    socket.once('error', (error) => fail(error.message, error));
    socket.once('secureConnect', () => {
      let certificate: DetailedPeerCertificate = socket.getPeerCertificate(true);
      for (let depth = 0; depth < 10; depth += 1) {
        const next = certificate.issuerCertificate as DetailedPeerCertificate | undefined;
        if (!next || next.fingerprint256 === certificate.fingerprint256) break;
        certificate = next;
      }
      const met = { trusted: socket.authorized, top: new X509Certificate(certificate.raw) };
      socket.destroy();
      resolve(met);
    });
  });
}

const plainHex = (text: string): string => text.replaceAll(/[^0-9a-fA-F]/g, '').toLowerCase();

/** PEM to pin, or undefined when this machine's own authorities vouch for the site. */
export async function authorityOf(
  call: Call,
  url: string,
  fingerprint: string | undefined,
): Promise<string | undefined> {
  const { trusted, top } = await meet(url);
  const actual = plainHex(top.fingerprint256);
  if (fingerprint !== undefined) {
    if (plainHex(fingerprint) !== actual)
      throw usage(`the site at ${url} shows an authority with the fingerprint ${actual}, not the one you gave`);
    return mustBeAuthority(top, url);
  }
  if (trusted) return undefined;
  const what = `${url} shows the certificate authority "${top.subject.replaceAll('\n', ', ')}" with the SHA-256 fingerprint\n  ${actual}\nCompare it with the site's (its invitations end with it). It will be believed from now on`;
  // --yes must not mean "believe anybody": an authority is compared by a person, or given.
  if (!canAsk(call.io))
    throw new Failure(exitCodes.declined, 'confirmation_required', { what, how: '--fingerprint SHA256, or --ca FILE' });
  await confirm({ io: call.io, options: {} }, what);
  return mustBeAuthority(top, url);
}

function mustBeAuthority(top: X509Certificate, url: string): string {
  if (!top.checkIssued(top)) throw usage(`${url} does not show its certificate authority; give it with --ca FILE`);
  return top.toString();
}
