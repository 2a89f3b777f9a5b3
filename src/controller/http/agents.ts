/** What agents ask over plain HTTP: the authority, joining, renewing, images. See `src/api/link.ts`. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import {
  inviteTokenPattern,
  JoinRequest,
  KeeperSaid,
  RenewRequest,
  type JoinAnswer,
  type RenewAnswer,
  type StoredImages,
} from '../../api/link.ts';
import { VirgaError } from '../../core/errors.ts';
import type { Actor } from '../../core/model/access.ts';
import { checkInvite, joinHost, noteKeeper, renewHost } from '../../core/requests/hosts.ts';
import { served } from '../links.ts';
import { hashOf, localCommunity } from './access.ts';
import { parseRange, rangeReply } from './range.ts';
import type { Services } from './services.ts';
import { newValidator } from './validate.ts';

const ajv = newValidator();
const isJoin = ajv.compile<JoinRequest>(JoinRequest);
const isRenew = ajv.compile<RenewRequest>(RenewRequest);
const isKeeper = ajv.compile<KeeperSaid>(KeeperSaid);
const smallBody = 32 * 1024;
const digestPattern = /^[0-9a-f]{128}$/;

export function agentRoutes(app: FastifyInstance, services: Services): void {
  const { state, access, files } = services;
  app.get('/agent/v1/ca', { config: { operation: 'agent.ca' } }, (_request, reply) =>
    reply.type('application/x-pem-file').send(services.authority().pem),
  );
  app.post('/agent/v1/join', { bodyLimit: smallBody, config: { operation: 'agent.join' } }, async (request) =>
    access.guard(request.raw, async () => join(services, request)),
  );
  app.post('/agent/v1/renew', { bodyLimit: smallBody, config: { operation: 'agent.renew' } }, async (request) =>
    renew(services, request),
  );
  app.post('/agent/v1/keeper', { bodyLimit: smallBody, config: { operation: 'agent.keeper' } }, async (request) => {
    await keeperSaid(services, request);
    return {};
  });
  app.get('/agent/v1/images', { config: { operation: 'agent.images' } }, async (request): Promise<StoredImages> => {
    if (!access.isController(request.raw)) throw new VirgaError('forbidden', { who: 'a host', action: 'list images' });
    return { images: await services.storedImages() };
  });
  app.get('/agent/v1/images/:digest', { config: { operation: 'agent.image' } }, async (request, reply) => {
    // Another controller takes what it lacks, also from one that does not lead.
    const any = access.isController(request.raw);
    if (!any) access.host(request.raw);
    const { digest } = request.params as { digest: string };
    const sizeBytes = digestPattern.test(digest) ? await files.size(digest) : undefined;
    const known = any || [...state.snapshot.all('image')].some((each) => each.status.stored?.sha512 === digest);
    if (sizeBytes === undefined || !known)
      throw new VirgaError('not_found', { kind: 'image', name: digest.slice(0, 16) });
    const range = parseRange(request.headers.range, sizeBytes);
    const { stream, type, status, headers } = rangeReply(await files.open(digest, range), range !== undefined, {});
    return reply.code(status).type(type).headers(headers).send(stream);
  });
}

/** One-time: the invitation is used up in the same commit that creates the host. */
async function join(services: Services, request: FastifyRequest): Promise<JoinAnswer> {
  const { state, clock, ids } = services;
  const { body } = request;
  if (!isJoin(body))
    throw new VirgaError('invalid_request', { detail: `the request to join: ${ajv.errorsText(isJoin.errors)}` });
  const match = inviteTokenPattern.exec(body.token);
  if (!match) throw new VirgaError('invite_invalid', { detail: 'it is not one that Virga made' });
  demandProtocol(body.protocol);
  const authority = services.authority();
  if (match[2] !== authority.pin) throw new VirgaError('invite_invalid', { detail: 'it is of another site' });
  const now = clock.now();
  const facts = { secretHash: hashOf(match[1] ?? ''), hostName: body.hostName };
  // Looked at before anything is signed; the commit looks again.
  checkInvite(state.snapshot, facts, now);
  const id = ids.uuid();
  const { certificate, serial, expiresAt } = await authority.signHost(body.csr, id, now);
  const address = request.socket.remoteAddress;
  const outcome = await state.change((snapshot) => {
    const actor: Actor = { who: 'virga', role: 'admin', community: localCommunity };
    return joinHost(
      snapshot,
      {
        ...facts,
        id,
        ...(address === undefined ? {} : { address }),
        agentVersion: body.agentVersion,
        protocol: body.protocol,
        certificate: { serial, expiresAt },
      },
      { now, uuid: () => ids.uuid(), actor },
    );
  });
  const host = state.snapshot.get('host', id);
  if (outcome.repeated || !host) throw new VirgaError('invite_invalid', { detail: 'the host was removed meanwhile' });
  const { site } = state.snapshot;
  return { certificate, ca: authority.pem, siteId: site.id, siteName: site.name, hostId: id, hostName: host.name };
}

async function renew(services: Services, request: FastifyRequest): Promise<RenewAnswer> {
  const host = services.access.host(request.raw);
  const { body } = request;
  if (!isRenew(body))
    throw new VirgaError('invalid_request', { detail: `the request to renew: ${ajv.errorsText(isRenew.errors)}` });
  const authority = services.authority();
  const now = services.clock.now();
  const { certificate, serial, expiresAt } = await authority.signHost(body.csr, host.id, now);
  const actor: Actor = { who: `host:${host.name}`, role: 'admin', community: host.community };
  await services.state.change((snapshot) =>
    renewHost(snapshot, host.id, { serial, expiresAt }, { now, uuid: () => services.ids.uuid(), actor }),
  );
  return { certificate, ca: authority.pem };
}

/** A witness says where it hears beats; of a host its agent does. */
async function keeperSaid(services: Services, request: FastifyRequest): Promise<void> {
  const host = services.access.host(request.raw);
  const { body } = request;
  if (host.spec.role !== 'witness')
    throw new VirgaError('forbidden', { who: `host:${host.name}`, action: 'say this: its agent reports its keeper' });
  if (!isKeeper(body))
    throw new VirgaError('invalid_request', { detail: `what the keeper says: ${ajv.errorsText(isKeeper.errors)}` });
  const { diskId, addresses, version } = body;
  const actor: Actor = { who: `host:${host.name}`, role: 'admin', community: host.community };
  const context = { now: services.clock.now(), uuid: () => services.ids.uuid(), actor };
  await services.state.change((snapshot) => noteKeeper(snapshot, host.id, { diskId, addresses, version }, context));
}

function demandProtocol(protocol: number): void {
  // A newer agent serves the protocol before its own, too.
  if (protocol >= served.min && protocol <= served.max + 1) return;
  throw new VirgaError('protocol_mismatch', { agent: protocol, controller: `${served.min} to ${served.max}` });
}
