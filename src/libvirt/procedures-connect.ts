/**
 * Procedures on the connection and the physical machine.
 * Names are libvirt's minus the `REMOTE_PROC_` prefix; numbers and field order are the wire's.
 */
import { chars, flags, int, list, optional, procedures, str, uhyper, uint } from './schema.ts';
import { MAIN_PROGRAM } from './frame.ts';
import { dom, keyValue, net, nodeDevice, nwfilter, pool, secret, statsRecord } from './types.ts';

const main = procedures(MAIN_PROGRAM);

export const CONNECT_PROCEDURES = {
  authList: main(66, {}, { types: list(int) }),
  authPolkit: main(70, {}, { complete: int }),
  connectOpen: main(1, { name: optional(str), flags }),
  connectClose: main(2, {}),
  connectGetType: main(3, {}, { type: str }),
  connectGetVersion: main(4, {}, { hvVer: uhyper }),
  connectGetLibVersion: main(157, {}, { libVer: uhyper }),
  connectGetHostname: main(59, {}, { hostname: str }),
  connectGetUri: main(110, {}, { uri: str }),
  connectGetCapabilities: main(7, {}, { capabilities: str }),
  connectGetDomainCapabilities: main(
    342,
    { emulatorbin: optional(str), arch: optional(str), machine: optional(str), virttype: optional(str), flags },
    { capabilities: str },
  ),
  connectSupportsFeature: main(60, { feature: int }, { supported: int }),
  nodeGetInfo: main(
    6,
    {},
    { model: chars(32), memory: uhyper, cpus: int, mhz: int, nodes: int, sockets: int, cores: int, threads: int },
  ),
  nodeGetCPUStats: main(227, { cpuNum: int, nparams: int, flags }, { params: list(keyValue), nparams: int }),
  nodeGetMemoryStats: main(228, { nparams: int, cellNum: int, flags }, { params: list(keyValue), nparams: int }),
  nodeGetFreeMemory: main(102, {}, { freeMem: uhyper }),
  connectListAllDomains: main(273, { needResults: int, flags }, { domains: list(dom), ret: uint }),
  connectGetAllDomainStats: main(344, { doms: list(dom), stats: uint, flags }, { records: list(statsRecord) }),
  connectDomainEventCallbackRegisterAny: main(316, { eventID: int, dom: optional(dom) }, { callbackID: int }),
  connectDomainEventCallbackDeregisterAny: main(317, { callbackID: int }),
  connectListAllStoragePools: main(281, { needResults: int, flags }, { pools: list(pool), ret: uint }),
  connectListAllNetworks: main(283, { needResults: int, flags }, { nets: list(net), ret: uint }),
  connectListAllNwfilters: main(286, { needResults: int, flags }, { filters: list(nwfilter), ret: uint }),
  connectListAllSecrets: main(287, { needResults: int, flags }, { secrets: list(secret), ret: uint }),
  connectListAllNodeDevices: main(285, { needResults: int, flags }, { devices: list(nodeDevice), ret: uint }),
  connectNetworkEventRegisterAny: main(313, { eventID: int, net: optional(net) }, { callbackID: int }),
  connectNetworkEventDeregisterAny: main(314, { callbackID: int }),
  connectStoragePoolEventRegisterAny: main(368, { eventID: int, pool: optional(pool) }, { callbackID: int }),
  connectStoragePoolEventDeregisterAny: main(369, { callbackID: int }),
};
