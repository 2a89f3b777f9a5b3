/**
 * The link between controller and agent: one mutual-TLS WebSocket per host, dialled by the agent. JSON text frames.
 *
 * Joining, before there is a certificate:
 *   GET  /agent/v1/ca                 → PEM of the site's CA; the agent compares its SHA-256 with the token's pin
 *   POST /agent/v1/join  JoinRequest  → JoinAnswer
 * With the certificate (CN = host id, O = site id):
 *   POST /agent/v1/renew RenewRequest → RenewAnswer
 *   POST /agent/v1/keeper KeeperSaid  → {}; only a witness, which has no agent that would report it
 *   GET  /agent/v1/images/SHA512      → bytes of a stored image (Range is served)
 *   WS   /agent/v1/link               → the messages below
 *   WS   /agent/v1/streams/ID         → bytes of one console or log stream, as binary frames
 *
 * An agent keeps a link to every controller that it knows of. Each hello is answered by `welcome` (it leads: reports go
 * there, orders come from there) or by `standby`; either may follow the other on the same link, so that the hosts are
 * there the moment a controller leads.
 *
 * With a controller's certificate (CN = controller, O = site id), between controllers:
 *   GET  /agent/v1/images             → what is stored: {"images":[{"sha512","sizeBytes"}]}
 *   GET  /agent/v1/images/SHA512      → as above, also from a controller that stands by
 *
 * Every message is validated on receipt by these schemas; unknown fields are ignored, so that a side one version newer
 * may add some. Agent and controller agree on the highest protocol that both serve.
 */
import Type, { type Static } from 'typebox';
import type { Assignment, HostReport } from '../core/model/assignment.ts';
import type { ErrorCode, ErrorValues } from '../core/errors.ts';

/** Limits of one message; a larger one closes the connection. */
export const maxMessageBytes = 32 * 1024 * 1024;

export const JoinRequest = Type.Object({
  token: Type.String({ maxLength: 200 }),
  /** PEM, PKCS #10; the key stays on the host. */
  csr: Type.String({ maxLength: 8192 }),
  hostName: Type.String({ maxLength: 63 }),
  protocol: Type.Integer(),
  agentVersion: Type.String({ maxLength: 64 }),
});
export type JoinRequest = Static<typeof JoinRequest>;
export interface JoinAnswer {
  readonly certificate: string;
  readonly ca: string;
  readonly siteId: string;
  readonly siteName: string;
  readonly hostId: string;
  readonly hostName: string;
}

/** Where a witness hears beats, and whose disk it is. */
export const KeeperSaid = Type.Object({
  diskId: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
  addresses: Type.Array(Type.String({ maxLength: 64 }), { minItems: 1, maxItems: 2 }),
  version: Type.String({ maxLength: 64 }),
});
export type KeeperSaid = Static<typeof KeeperSaid>;

export const RenewRequest = Type.Object({ csr: Type.String({ maxLength: 8192 }) });
export type RenewRequest = Static<typeof RenewRequest>;
export interface RenewAnswer {
  readonly certificate: string;
  readonly ca: string;
}

/** Invitation tokens: `vgi1.SECRET.SHA256-OF-CA-DER-HEX`. API tokens: `vgt1.ID.SECRET`. */
export const inviteTokenPattern = /^vgi1\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})$/;

export type Ask =
  | { readonly ask: 'log'; readonly guestId: string; readonly tailBytes: number }
  /** A foreign domain, read without touching it (adoption). */
  | { readonly ask: 'inspect'; readonly uuid: string }
  /** The agent dials /agent/v1/streams/STREAM and carries the guest's console, or its log from now on. */
  | { readonly ask: 'open'; readonly stream: string; readonly what: 'console' | 'log'; readonly guestId: string }
  /** A stray is destroyed after a person's review. */
  | { readonly ask: 'destroy-stray'; readonly guestId: string };

export interface AskAnswers {
  log: { readonly text: string; readonly truncated: boolean };
  inspect: {
    readonly name: string;
    readonly cpus: number;
    readonly memoryMiB: number;
    readonly xml: string;
    readonly persistent: boolean;
    readonly autostart: boolean;
  };
  open: Record<string, never>;
  'destroy-stray': Record<string, never>;
}

export type ToAgent =
  | {
      readonly type: 'welcome';
      readonly protocol: number;
      readonly siteId: string;
      readonly hostId: string;
      readonly controllerVersion: string;
      /** Number of the epoch under which this controller leads. Where two say welcome, the higher one counts. */
      readonly epoch?: number;
      readonly controllerId?: string;
      /** Addresses of all controllers of the site. */
      readonly controllers?: readonly string[];
    }
  /** Another controller leads, or nobody. The link stays: a welcome follows when this one leads. */
  | {
      readonly type: 'standby';
      readonly controllerId: string;
      readonly controllers: readonly string[];
      /** Who leads, where that is known. */
      readonly leader?: string;
    }
  | { readonly type: 'controllers'; readonly urls: readonly string[] }
  | { readonly type: 'assignment'; readonly assignment: Assignment }
  | ({ readonly type: 'ask'; readonly id: number } & Ask)
  /** The controller refuses this agent; the reason is final until one of the two is changed. */
  | { readonly type: 'refused'; readonly code: ErrorCode; readonly values: ErrorValues };

export type ToController =
  | {
      readonly type: 'hello';
      readonly agentVersion: string;
      /** Range of protocols that the agent serves. */
      readonly protocolMin: number;
      readonly protocolMax: number;
      readonly session: { readonly number: number; readonly id: string };
    }
  | { readonly type: 'report'; readonly report: HostReport }
  | {
      readonly type: 'answer';
      readonly id: number;
      readonly ok: boolean;
      readonly value?: unknown;
      readonly error?: { readonly code: ErrorCode; readonly values: ErrorValues };
    };

/** Digests and sizes of the images that a controller has. */
export interface StoredImages {
  readonly images: readonly { readonly sha512: string; readonly sizeBytes: number }[];
}

/** Most controllers of one site. */
export const maxControllers = 16;

/** Structure of an incoming message before its parts are looked at. */
export const Envelope = Type.Object({ type: Type.String({ maxLength: 32 }) });
