/**
 * How two processes come to a key. Each shows its certificate in a `hello`, and echoes the other's fresh number under a
 * key that only the two holders of the certificates have; whose number is echoed knows that the other is there now.
 *
 *   A → B  hello(run A, ask a)                     "who are you?"
 *   B → A  hello(run B, ask b, echo a), MAC        A is sure of B and of its run
 *   A → B  hello(run A, echo b), MAC               B is sure of A and of its run
 *
 * Every hello is about as long as the one that it answers, so nobody can use us to flood a third.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import type { Uuid } from '../../core/model/resource.ts';
import { Bucket } from './bucket.ts';
import { authentic, encodeHello, noNumber, type Hello } from './frame.ts';
import {
  helloKey,
  OwnIdentity,
  sessionKey,
  type Certified,
  type Role,
  type SessionKey,
  type WireIdentity,
} from './identity.ts';
import { apart } from './peers.ts';

const maxCertificates = 4096;
/** An asked number is good for one to two of these, milliseconds. */
const freshMs = 10_000;
/** Hellos looked at: the join of a whole site after a restart of this process. */
const hellosPerSecond = 1500;
const helloBurst = 500;

/** Without the public key, which takes kilobytes: what is shared with its holder is all that is used of it. */
interface Known extends Omit<Certified, 'publicKey'> {
  readonly secret: Buffer;
}

export interface Greeted {
  readonly role: Role;
  /** There when the other has proven itself. */
  readonly key?: SessionKey;
  /** To be sent back. */
  readonly answer?: Buffer;
}

export class Greeter {
  readonly #self: Uuid;
  readonly #siteId: Uuid;
  readonly #run = randomBytes(8).toString('hex');
  readonly #secret = randomBytes(32);
  #own: OwnIdentity;
  /** By SHA-256 of the certificate; the one used longest ago first. */
  readonly #known = new Map<string, Known>();
  readonly #bucket: Bucket;

  constructor(self: Uuid, siteId: Uuid, identity: WireIdentity, now: number) {
    this.#self = self;
    this.#siteId = siteId;
    this.#own = new OwnIdentity(identity, siteId);
    this.#bucket = new Bucket(hellosPerSecond, helloBurst, now);
  }

  /** Goes on with a renewed certificate; keys that stand go on serving. */
  use(identity: WireIdentity): void {
    this.#own = new OwnIdentity(identity, this.#siteId);
    this.#known.clear();
  }

  /** "Who are you?" */
  ask(to: Uuid, now: number): Buffer {
    return encodeHello({ ...this.#head(to, now), echo: noNumber, wants: true }, undefined);
  }

  /** What to make of a hello; undefined: nothing (not of this site, or too many). */
  meet(hello: Hello, bytes: Buffer, now: number, wallNow: number): Greeted | 'refused' | 'busy' {
    if (!this.#bucket.take(now)) return 'busy';
    const known = this.#certified(hello.certificate, wallNow);
    if (!known || (known.role === 'keeper' && known.name !== hello.from)) return 'refused';
    const key = helloKey(known.secret, this.#siteId, [this.#self, hello.from]);
    const proven =
      (hello.echo === this.#number(hello.from, now) || hello.echo === this.#number(hello.from, now - freshMs)) &&
      authentic(bytes, key);
    const answer = hello.wants
      ? encodeHello({ ...this.#head(hello.from, now), echo: hello.ask, wants: !proven }, key)
      : undefined;
    const sides = [
      { id: this.#self, run: this.#run },
      { id: hello.from, run: hello.run },
    ] as const;
    return {
      role: known.role,
      ...(answer ? { answer } : {}),
      ...(proven ? { key: sessionKey(known.secret, this.#siteId, sides) } : {}),
    };
  }

  #head(to: Uuid, now: number): Omit<Hello, 'type' | 'echo' | 'wants'> {
    const { certificate } = this.#own;
    return { from: this.#self, to, run: this.#run, ask: this.#number(to, now), certificate };
  }

  /** A number that only we can make, for this peer and these seconds: nothing is kept for those who only ask. */
  #number(peer: Uuid, now: number): string {
    const period = Math.floor(now / freshMs);
    return createHmac('sha256', this.#secret).update(`${peer} ${period}`).digest('hex').slice(0, 16);
  }

  #certified(der: Buffer, wallNow: number): Known | undefined {
    const print = createHash('sha256').update(der).digest('base64');
    const cached = this.#known.get(print);
    if (cached) {
      this.#known.delete(print);
      this.#known.set(print, cached);
      return cached;
    }
    const certified = this.#own.check(der, wallNow);
    if (!certified) return undefined;
    const { name, role, publicKey } = certified;
    const known = { name, role, secret: apart(this.#own.shared(publicKey)) };
    this.#known.set(print, known);
    if (this.#known.size > maxCertificates)
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    return known;
  }
}
