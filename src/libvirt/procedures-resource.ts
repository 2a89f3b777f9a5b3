/**
 * Procedures on storage, networks, filters, secrets and devices.
 * Names are libvirt's minus the `REMOTE_PROC_` prefix; numbers and field order are the wire's.
 */
import { char, flags, int, list, opaque, optional, procedures, str, uchar, uhyper, uint } from './schema.ts';
import { MAIN_PROGRAM } from './frame.ts';
import { lease, net, nwfilter, pool, secret, vol } from './types.ts';

const main = procedures(MAIN_PROGRAM);
/** The value of a secret (REMOTE_SECRET_VALUE_MAX). */
const bytes = opaque(65_536);

export const RESOURCE_PROCEDURES = {
  storagePoolDefineXML: main(77, { xml: str, flags }, { pool }),
  storagePoolBuild: main(79, { pool, flags }),
  storagePoolCreate: main(78, { pool, flags }),
  storagePoolDestroy: main(80, { pool }),
  storagePoolUndefine: main(82, { pool }),
  storagePoolRefresh: main(83, { pool, flags }),
  storagePoolSetAutostart: main(90, { pool, autostart: int }),
  storagePoolGetInfo: main(87, { pool }, { state: uchar, capacity: uhyper, allocation: uhyper, available: uhyper }),
  storagePoolGetXMLDesc: main(88, { pool, flags }, { xml: str }),
  storagePoolLookupByName: main(84, { name: str }, { pool }),
  storagePoolListAllVolumes: main(282, { pool, needResults: int, flags }, { vols: list(vol), ret: uint }),
  storageVolCreateXML: main(93, { pool, xml: str, flags }, { vol }),
  storageVolCreateXMLFrom: main(125, { pool, xml: str, clonevol: vol, flags }, { vol }),
  storageVolDelete: main(94, { vol, flags }),
  storageVolResize: main(260, { vol, capacity: uhyper, flags }),
  storageVolUpload: main(208, { vol, offset: uhyper, length: uhyper, flags }, {}, 'write'),
  storageVolDownload: main(209, { vol, offset: uhyper, length: uhyper, flags }, {}, 'read'),
  storageVolGetInfoFlags: main(378, { vol, flags }, { type: char, capacity: uhyper, allocation: uhyper }),
  storageVolGetXMLDesc: main(99, { vol, flags }, { xml: str }),
  storageVolGetPath: main(100, { vol }, { name: str }),
  storageVolLookupByName: main(95, { pool, name: str }, { vol }),
  networkDefineXML: main(41, { xml: str }, { net }),
  networkCreate: main(39, { net }),
  networkDestroy: main(42, { net }),
  networkUndefine: main(49, { net }),
  networkGetXMLDesc: main(43, { net, flags }, { xml: str }),
  networkLookupByName: main(46, { name: str }, { net }),
  networkSetAutostart: main(48, { net, autostart: int }),
  networkGetDhcpLeases: main(
    341,
    { net, mac: optional(str), needResults: int, flags },
    { leases: list(lease), ret: uint },
  ),
  networkUpdate: main(291, { net, command: uint, section: uint, parentIndex: int, xml: str, flags }),
  nwfilterDefineXML: main(180, { xml: str }, { nwfilter }),
  nwfilterUndefine: main(181, { nwfilter }),
  secretDefineXML: main(142, { xml: str, flags }, { secret }),
  secretSetValue: main(144, { secret, value: bytes, flags }),
  secretUndefine: main(146, { secret }),
  nodeDeviceGetXMLDesc: main(114, { name: str, flags }, { xml: str }),
  nodeDeviceDetachFlags: main(301, { name: str, driverName: optional(str), flags }),
  nodeDeviceReAttach: main(119, { name: str }),
  storageVolWipe: main(165, { vol, flags }),
};
