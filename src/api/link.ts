/**
 * The link between controller and agent: one mutual-TLS WebSocket per host, dialled by the agent. JSON text frames.
 *
 * Joining, before there is a certificate:
 *   GET  /agent/v1/ca                 → PEM of the site's CA; the agent compares its SHA-256 with the token's pin
 *   POST /agent/v1/join  JoinRequest  → JoinAnswer
 * With the certificate (CN = host id, O = site id):
 *   POST /agent/v1/renew RenewRequest → RenewAnswer
 *   GET  /agent/v1/images/SHA512      → bytes of a stored image (Range is served)
 *   WS   /agent/v1/link               → the messages below
 *   WS   /agent/v1/streams/ID         → bytes of one console or log stream, as binary frames
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
    }
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

/** Structure of an incoming message before its parts are looked at. */
export const Envelope = Type.Object({ type: Type.String({ maxLength: 32 }) });
