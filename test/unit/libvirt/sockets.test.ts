import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorCodeName, errorDomainName } from '../../../src/libvirt/error-names.ts';
import { LibvirtError } from '../../../src/libvirt/errors.ts';
import { findSocket, parseUri, socketCandidates } from '../../../src/libvirt/sockets.ts';

const RUN = '/run/libvirt';

function candidates(uri: string, readonly = false): string[] {
  return socketCandidates(parseUri(uri), { readonly, env: { XDG_RUNTIME_DIR: '/run/user/7' } });
}

test('system URIs: the driver’s own daemon first, then libvirtd', () => {
  assert.deepEqual(candidates('qemu:///system'), [`${RUN}/virtqemud-sock`, `${RUN}/libvirt-sock`]);
  assert.deepEqual(candidates('network:///system'), [`${RUN}/virtnetworkd-sock`, `${RUN}/libvirt-sock`]);
  assert.deepEqual(candidates('storage:///system'), [`${RUN}/virtstoraged-sock`, `${RUN}/libvirt-sock`]);
  assert.deepEqual(candidates('test:///default'), [`${RUN}/virttestd-sock`, `${RUN}/libvirt-sock`]);
  assert.deepEqual(candidates('qemu:///system', true), [`${RUN}/virtqemud-sock-ro`, `${RUN}/libvirt-sock-ro`]);
});

test('session URIs: the user’s own sockets', () => {
  const folder = '/run/user/7/libvirt';
  assert.deepEqual(candidates('qemu:///session', true), [`${folder}/virtqemud-sock`, `${folder}/libvirt-sock`]);
  const home = socketCandidates(parseUri('qemu:///session'), { env: { HOME: '/home/ann' } });
  assert.equal(home[1], '/home/ann/.cache/libvirt/libvirt-sock');
  assert.throws(() => socketCandidates(parseUri('qemu:///session'), { env: {} }), /XDG_RUNTIME_DIR/);
});

test('parameters for the client are obeyed and kept from the daemon', () => {
  const uri = parseUri('qemu+unix:///system?socket=/tmp/a%20b&no_verify=1');
  assert.deepEqual(uri, {
    driver: 'qemu',
    openName: 'qemu:///system?no_verify=1',
    session: false,
    socket: '/tmp/a b',
    mode: 'auto',
  });
  assert.deepEqual(socketCandidates(uri), ['/tmp/a b']);
  assert.deepEqual(candidates('qemu:///system?mode=direct'), [`${RUN}/virtqemud-sock`]);
  assert.deepEqual(candidates('qemu:///system?mode=legacy'), [`${RUN}/libvirt-sock`]);
  assert.equal(parseUri('test:///default').openName, 'test:///default');
});

test('what is not on this machine is refused, in words', () => {
  for (const uri of [
    'qemu+ssh://host/system',
    'qemu://host/system',
    'qemu+tcp:///system',
    'qemu',
    '',
    'qemu:///system?mode=x',
  ]) {
    assert.throws(
      () => parseUri(uri),
      (error) => error instanceof LibvirtError && error.kind === 'argument',
      uri,
    );
  }
});

test('the first socket that exists; otherwise all of them are named', () => {
  const uri = parseUri('qemu:///system');
  assert.equal(findSocket(uri, { exists: () => true }), `${RUN}/virtqemud-sock`);
  assert.equal(findSocket(uri, { exists: (path) => path.endsWith('/libvirt-sock') }), `${RUN}/libvirt-sock`);
  assert.throws(
    () => findSocket(uri, { exists: () => false }),
    (error) =>
      error instanceof LibvirtError && error.kind === 'connect' && /virtqemud-sock, .*libvirt-sock/.test(error.message),
  );
});

test('names of error numbers, at both ends and in the middle of the tables', () => {
  assert.equal(errorCodeName(0), 'VIR_ERR_OK');
  assert.equal(errorCodeName(1), 'VIR_ERR_INTERNAL_ERROR');
  assert.equal(errorCodeName(29), 'VIR_ERR_OPERATION_DENIED');
  assert.equal(errorCodeName(41), 'VIR_WAR_NO_NETWORK');
  assert.equal(errorCodeName(55), 'VIR_ERR_OPERATION_INVALID');
  assert.equal(errorCodeName(80), 'VIR_ERR_NO_DOMAIN_METADATA');
  assert.equal(errorCodeName(113), 'VIR_ERR_AGENT_COMMAND_FAILED');
  assert.equal(errorCodeName(9999), 'VIR_ERR_9999');
  assert.equal(errorDomainName(0), 'VIR_FROM_NONE');
  assert.equal(errorDomainName(18), 'VIR_FROM_STORAGE');
  assert.equal(errorDomainName(72), 'VIR_FROM_CH');
  assert.equal(errorDomainName(9999), 'VIR_FROM_9999');
});
