/** A libvirt client in TypeScript, over unix sockets, without any native code. See docs/libvirt.md. */
export { LibvirtClient, type DomainStats, type DomainStatus } from './client.ts';
export { Connection, type ConnectionOptions } from './connection.ts';
export * from './constants.ts';
export type { CallOptions } from './deadline.ts';
export { isLibvirtCode, LibvirtError, type ErrorKind } from './errors.ts';
export { errorCodeName, errorDomainName } from './error-names.ts';
export type { EventHandler } from './event-hub.ts';
export type { EventBody, EventName } from './events.ts';
export { Link, type BackOff } from './link.ts';
export { Params } from './params.ts';
export { PROCEDURES, type CallArgs, type CallResult, type ProcedureName, type StreamName } from './procedures.ts';
export { LibvirtSession, type ClientOptions, type LinkState } from './session.ts';
export { findSocket, parseUri, socketCandidates, type LibvirtUri, type SocketSearch } from './sockets.ts';
export { StorageClient, type TransferOptions } from './storage.ts';
export { LibvirtStream, type StreamOptions } from './streams.ts';
export type { Dom, Iface, IpAddress, Net, Param, Pool, Snap, Vol } from './types.ts';
export * from './xml.ts';
