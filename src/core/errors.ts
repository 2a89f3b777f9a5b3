/**
 * The one registry of errors. Every error that a person can see has a code here, says what is wrong with what, and what
 * to do. The message templates take named values; the API sends code, message, hint and values; the CLI prints them.
 */
interface Entry {
  /** HTTP status of the API's answer. */
  readonly status: number;
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

export const errorRegistry = {
  // --- input
  keeper: {
    status: 503,
    message: 'The keeper of host "{host}" does not answer: {detail}',
    hint: 'On the host: virga doctor. Its guests run on while its lease lasts; highly available ones cannot be started.',
  },
  no_majority: {
    status: 503,
    message: 'No majority of the voters answers this controller ({answering} of {votes} votes)',
    hint: 'See who answers: virga voters list. Guests are not touched; hosts that hear a majority run on.',
  },
  invalid_request: { status: 400, message: '{detail}', hint: 'Correct the request; the reference lists every field.' },
  invalid_name: {
    status: 400,
    message: '"{name}" is not a valid {kind} name',
    hint: 'Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.',
  },
  body_too_large: {
    status: 413,
    message: 'The request body is larger than {limit}',
    hint: 'Send less; images are uploaded in parts by "virga image add".',
  },
  not_found: { status: 404, message: 'There is no {kind} "{name}"', hint: 'List what there is: virga {kind} list' },
  route_not_found: { status: 404, message: 'There is no {method} {path}', hint: 'The API reference is at /reference.' },
  name_taken: { status: 409, message: 'There is already a {kind} "{name}"', hint: 'Choose another name.' },
  ambiguous: { status: 409, message: '"{name}" fits more than one {kind}', hint: 'Give the whole UUID.' },
  // --- concurrency
  stale: {
    status: 412,
    message: 'The {kind} "{name}" has changed since you read it (you have {given}, it is {actual})',
    hint: 'Read it again, and decide on what it is now.',
  },
  idempotency_mismatch: {
    status: 422,
    message: 'The idempotency key "{key}" was used before with another request',
    hint: 'Use a new key for a new request.',
  },
  too_old: {
    status: 410,
    message: 'The changes since revision {given} are not kept any more (oldest {oldest}, newest {newest})',
    hint: 'Read the lists again, and watch from their revision.',
  },
  conflict: {
    status: 409,
    message: 'The site changed while this was decided, {tries} times in a row',
    hint: 'Try again.',
  },
  // --- access
  unauthenticated: {
    status: 401,
    message: 'No valid credentials: {detail}',
    hint: "On the controller's machine use the unix socket; from elsewhere a token (virga token create).",
  },
  token_expired: {
    status: 401,
    message: 'The token "{name}" expired at {at}',
    hint: 'Ask for a new one: virga token create NAME',
  },
  forbidden: { status: 403, message: '{who} may not {action}', hint: 'Ask the owner or an administrator.' },
  reason_required: {
    status: 422,
    message: 'The {kind} "{name}" belongs to {owner}: a reason is required',
    hint: 'Say why: --reason "…"',
  },
  invite_invalid: {
    status: 401,
    message: 'The invitation is not valid: {detail}',
    hint: 'Make a new one: virga host invite',
  },
  certificate_refused: {
    status: 403,
    message: 'The certificate is refused: {detail}',
    hint: 'The host must join this site first: virga host invite',
  },
  protocol_mismatch: {
    status: 426,
    message: 'The agent speaks protocol {agent}, this controller {controller}',
    hint: 'Upgrade one version at a time; controller and agents may be one version apart.',
  },
  // --- state
  not_allowed: {
    status: 409,
    message: 'A guest that is {state} cannot be {action}: {why}',
    hint: 'See its state: virga guest show {name}',
  },
  held: {
    status: 409,
    message: 'The guest "{name}" is held ({reason})',
    hint: 'Let it go first: virga guest unhold {name}',
  },
  in_use: { status: 409, message: 'The {kind} "{name}" is in use by {users}', hint: 'Delete or change those first.' },
  not_ready: {
    status: 409,
    message: 'The {kind} "{name}" is {state}, not ready',
    hint: 'Wait for it: virga {kind} show {name}',
  },
  snapshot_not_ready: {
    status: 409,
    message: 'The snapshot "{name}" of the guest "{guest}" is {state}, not ready',
    hint: 'See its snapshots: virga guest snapshot list {guest}',
  },
  domain_not_found: {
    status: 404,
    message: 'There is no foreign domain "{name}" on the host "{host}"',
    hint: 'See what runs there: virga host show {host}',
  },
  host_alive: {
    status: 409,
    message: 'The host "{name}" is not dead: {detail}',
    hint: 'Switch it off first, or let its fence device do so: virga host fence {name}',
  },
  host_not_lost: {
    status: 409,
    message: 'The host "{name}" is {state} and carries {guests} guests',
    hint: 'Remove its guests first; or, if the machine is gone for ever: virga host remove {name} --lost',
  },
  host_not_over: {
    status: 409,
    message: 'The host "{name}" is {state}: what ran there under its lease may still run',
    hint: 'Wait until it is lost, or say that it is dead: virga host declare-dead {name}',
  },
  confirmation_required: {
    status: 422,
    message: 'This needs confirmation: {what}',
    hint: 'Repeat it with the confirmation: {how}',
  },
  review_pending: {
    status: 409,
    message: 'The site was restored from a backup and waits for review: nothing is destroyed until then',
    hint: 'Look and decide: virga review',
  },
  // --- placement and capacity
  no_placement: {
    status: 409,
    message: 'No host can take {what}: {reasons}',
    hint: 'See why: virga host list, or add --partial.',
  },
  no_hosts: { status: 409, message: 'No host has joined the site', hint: 'Invite one: virga host invite' },
  address_range_full: {
    status: 409,
    message: 'The network "{name}" has no free address left ({used} of {size} used)',
    hint: 'Widen its range, or delete guests.',
  },
  limit: { status: 422, message: '{what} is {value}, the limit is {limit}', hint: '{how}' },
  // --- images
  image_refused: { status: 422, message: 'The image is refused: {detail}', hint: '{how}' },
  image_digest: {
    status: 422,
    message: 'The digest of the {what} is {actual}, expected {expected}',
    hint: 'The bytes were damaged or are not what you meant: fetch them again.',
  },
  upload_offset: {
    status: 409,
    message: 'The upload of "{name}" continues at byte {expected}, not at {given}',
    hint: 'Ask for the offset (HEAD) and go on from there; "virga image add" does.',
  },
  upload_size: {
    status: 422,
    message: 'The image "{name}" was announced with {expected} bytes, {given} arrived',
    hint: 'Delete it and upload it again with the right size.',
  },
  disk_full: {
    status: 507,
    message: 'No space left in {path} ({detail})',
    hint: 'Free space there; what was received is kept, and the upload can go on.',
  },
  // --- parts of the site that do not answer
  store_unavailable: {
    status: 503,
    message: 'The database does not answer: {detail}',
    hint: 'Guests run on. The controller tries again by itself; look at its log.',
  },
  store_newer: {
    status: 500,
    message: 'The database has schema {actual}, this version of Virga knows up to {known}',
    hint: 'Run the newer version of Virga, or restore a backup made by this one.',
  },
  not_leading: { status: 503, message: 'This controller does not lead', hint: 'Try again in a moment.' },
  standby: {
    status: 503,
    message: 'This controller stands by; {leader} leads',
    hint: 'Ask that one: virga --url {leader} …, or a context of it.',
  },
  overloaded: { status: 503, message: 'Too many {what} at once (limit {limit})', hint: 'Try again in a moment.' },
  host_unreachable: {
    status: 503,
    message: 'The host "{name}" is not connected',
    hint: 'See when it was last heard from: virga host show {name}',
  },
  timeout: { status: 504, message: '{what} did not answer within {seconds} s', hint: 'Try again, or look at the log.' },
  engine: { status: 502, message: 'libvirt on {host} says: {detail}', hint: 'See virga doctor on that host.' },
  // --- local commands
  site_unreachable: {
    status: 503,
    message: 'No site answers at {where}: {detail}',
    hint: 'Start one (virga up), or say where it is (virga context add).',
  },
  usage: { status: 400, message: '{detail}', hint: 'See --help.' },
  site_file: { status: 400, message: '{file}:{line}: {detail}', hint: 'The schema for editors: virga apply --schema' },
  setup: { status: 500, message: '{detail}', hint: '{how}' },
  backup: { status: 400, message: '{detail}', hint: '{how}' },
  cancelled: { status: 499, message: 'Cancelled: {detail}', hint: 'Nothing was changed.' },
  internal: {
    status: 500,
    message: 'Something went wrong inside Virga ({id})',
    hint: 'Please report it with the log lines that carry this id.',
  },
} as const satisfies Record<string, Entry>;

export type ErrorCode = keyof typeof errorRegistry;
export type ErrorValues = Readonly<Record<string, string | number | boolean>>;

/** What the API sends and the CLI prints with `--json`. */
export interface ErrorBody {
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly hint: string;
    readonly values: ErrorValues;
  };
}

function fill(template: string, values: ErrorValues): string {
  return template.replace(/\{(\w+)\}/g, (whole, key: string) => String(values[key] ?? whole));
}

/** The one error class that reaches people. `cause` keeps what was underneath; it goes to the log, never to a user. */
export class VirgaError extends Error {
  readonly code: ErrorCode;
  readonly values: ErrorValues;
  readonly hint: string;

  constructor(code: ErrorCode, values: ErrorValues = {}, options?: { cause?: unknown }) {
    super(fill(errorRegistry[code].message, values), options);
    this.name = 'VirgaError';
    this.code = code;
    this.values = values;
    this.hint = fill(errorRegistry[code].hint, values);
  }

  get status(): number {
    return errorRegistry[this.code].status;
  }

  toBody(): ErrorBody {
    return { error: { code: this.code, message: this.message, hint: this.hint, values: this.values } };
  }
}
