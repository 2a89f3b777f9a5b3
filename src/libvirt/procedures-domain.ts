/**
 * Procedures on domains, of the main and of the QEMU program.
 * Names are libvirt's minus the `REMOTE_PROC_` prefix; numbers and field order are the wire's.
 */
import { flags, int, list, opaque, optional, procedures, str, uchar, uhyper, uint, ushort } from './schema.ts';
import { MAIN_PROGRAM, QEMU_PROGRAM } from './frame.ts';
import { checkpoint, dom, fsInfo, iface, memoryStat, param, snap, uuid } from './types.ts';

const main = procedures(MAIN_PROGRAM);
const qemu = procedures(QEMU_PROGRAM);
/** Migration cookies: at most what libvirt allows (REMOTE_MIGRATE_COOKIE_MAX). */
const bytes = opaque(4 * 1024 * 1024);

export const DOMAIN_PROCEDURES = {
  domainLookupByName: main(23, { name: str }, { dom }),
  domainLookupByUUID: main(24, { uuid }, { dom }),
  domainDefineXMLFlags: main(350, { xml: str, flags }, { dom }),
  domainDefineXML: main(11, { xml: str }, { dom }),
  domainCreateWithFlags: main(196, { dom, flags }, { dom }),
  domainCreateXML: main(10, { xml: str, flags }, { dom }),
  domainDestroyFlags: main(234, { dom, flags }),
  domainShutdownFlags: main(258, { dom, flags }),
  domainReboot: main(27, { dom, flags }),
  domainReset: main(245, { dom, flags }),
  domainSuspend: main(34, { dom }),
  domainResume: main(28, { dom }),
  domainUndefineFlags: main(231, { dom, flags }),
  domainGetState: main(212, { dom, flags }, { state: int, reason: int }),
  domainGetInfo: main(
    16,
    { dom },
    { state: uchar, maxMem: uhyper, memory: uhyper, nrVirtCpu: ushort, cpuTime: uhyper },
  ),
  domainGetXMLDesc: main(14, { dom, flags }, { xml: str }),
  domainSetAutostart: main(29, { dom, autostart: int }),
  domainGetAutostart: main(15, { dom }, { autostart: int }),
  domainSetMemoryFlags: main(204, { dom, memory: uhyper, flags }),
  domainSetVcpusFlags: main(199, { dom, nvcpus: uint, flags }),
  domainAttachDeviceFlags: main(160, { dom, xml: str, flags }),
  domainDetachDeviceFlags: main(161, { dom, xml: str, flags }),
  domainUpdateDeviceFlags: main(174, { dom, xml: str, flags }),
  domainBlockResize: main(251, { dom, disk: str, size: uhyper, flags }),
  domainGetBlockInfo: main(194, { dom, path: str, flags }, { allocation: uhyper, capacity: uhyper, physical: uhyper }),
  domainBlockCopy: main(345, { dom, path: str, destxml: str, params: list(param), flags }),
  domainBlockJobAbort: main(237, { dom, path: str, flags }),
  domainGetBlockJobInfo: main(
    238,
    { dom, path: str, flags },
    { found: int, type: int, bandwidth: uhyper, cur: uhyper, end: uhyper },
  ),
  domainBlockCommit: main(290, { dom, disk: str, base: optional(str), top: optional(str), bandwidth: uhyper, flags }),
  domainBlockPull: main(240, { dom, path: str, bandwidth: uhyper, flags }),
  domainMemoryStats: main(159, { dom, maxStats: uint, flags }, { stats: list(memoryStat) }),
  domainGetMetadata: main(265, { dom, type: int, uri: optional(str), flags }, { metadata: str }),
  domainSetMetadata: main(264, {
    dom,
    type: int,
    metadata: optional(str),
    key: optional(str),
    uri: optional(str),
    flags,
  }),
  domainOpenConsole: main(201, { dom, devName: optional(str), flags }, {}, 'both'),
  domainScreenshot: main(211, { dom, screen: uint, flags }, { mime: optional(str) }, 'read'),
  domainFsfreeze: main(335, { dom, mountpoints: list(str), flags }, { filesystems: int }),
  domainFsthaw: main(336, { dom, mountpoints: list(str), flags }, { filesystems: int }),
  domainGetFsinfo: main(349, { dom, flags }, { info: list(fsInfo), ret: uint }),
  domainSetUserPassword: main(357, { dom, user: optional(str), password: optional(str), flags }),
  domainInterfaceAddresses: main(353, { dom, source: uint, flags }, { ifaces: list(iface) }),
  domainGetGuestInfo: main(418, { dom, types: uint, flags }, { params: list(param) }),
  domainSnapshotCreateXML: main(185, { dom, xml: str, flags }, { snap }),
  domainListAllSnapshots: main(274, { dom, needResults: int, flags }, { snapshots: list(snap), ret: int }),
  domainRevertToSnapshot: main(192, { snap, flags }),
  domainSnapshotDelete: main(193, { snap, flags }),
  domainSnapshotGetXMLDesc: main(186, { snap, flags }, { xml: str }),
  domainSnapshotLookupByName: main(189, { dom, name: str, flags }, { snap }),
  domainCheckpointCreateXML: main(411, { dom, xml: str, flags }, { checkpoint }),
  domainBackupBegin: main(421, { dom, backupXml: str, checkpointXml: optional(str), flags }),
  domainBackupGetXMLDesc: main(422, { dom, flags }, { xml: str }),
  domainManagedSave: main(182, { dom, flags }),
  domainHasManagedSaveImage: main(183, { dom, flags }, { result: int }),
  domainManagedSaveRemove: main(184, { dom, flags }),
  domainMigrateBegin3Params: main(302, { dom, params: list(param), flags }, { cookieOut: bytes, xml: str }),
  domainMigratePrepare3Params: main(
    303,
    { params: list(param), cookieIn: bytes, flags },
    { cookieOut: bytes, uriOut: optional(str) },
  ),
  domainMigratePerform3Params: main(
    305,
    { dom, dconnuri: optional(str), params: list(param), cookieIn: bytes, flags },
    { cookieOut: bytes },
  ),
  domainMigrateFinish3Params: main(
    306,
    { params: list(param), cookieIn: bytes, flags, cancelled: int },
    { dom, cookieOut: bytes },
  ),
  domainMigrateConfirm3Params: main(307, { dom, params: list(param), cookieIn: bytes, flags, cancelled: int }),
  domainMigrateStartPostCopy: main(364, { dom, flags }),
  domainMigrateSetMaxSpeed: main(207, { dom, bandwidth: uhyper, flags }),
  domainMigrateSetMaxDowntime: main(166, { dom, downtime: uhyper, flags }),
  domainGetJobStats: main(298, { dom, flags }, { type: int, params: list(param) }),
  domainAbortJob: main(164, { dom }),
  domainMonitorCommand: qemu(1, { dom, cmd: str, flags }, { result: str }),
  domainAgentCommand: qemu(3, { dom, cmd: str, timeout: int, flags }, { result: optional(str) }),
};
