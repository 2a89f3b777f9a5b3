import { deviceProblem } from '../ha/fencing.ts';
import type { FenceDevice } from '../model/host.ts';
import { checkText, checkWhole, invalid } from './check.ts';
import type { FenceDeviceInput } from './inputs.ts';

const agent = /^fence_[a-z0-9_]{1,60}$/;
const parameter = /^[a-zA-Z0-9_-]{1,64}$/;
/** Parameters of the fence agents that are secrets: they come from files, since documents are shown. */
const secrets = ['passwd', 'password', 'snmp_priv_passwd', 'secret'];
const most = { devices: 8, parameters: 32, valueBytes: 1024, delayMs: 600_000 } as const;

/** The devices of a host, checked. Secrets are given as files, by `NAME_file`. */
export function fenceDevices(input: readonly FenceDeviceInput[]): readonly FenceDevice[] {
  checkWhole('the number of fence devices', input.length, 0, most.devices);
  return input.map((each) => {
    if (!agent.test(each.agent))
      throw invalid(`"${each.agent.slice(0, 80)}" is not the name of a fence agent (fence_…)`);
    const entries = Object.entries(each.parameters);
    checkWhole(`the number of parameters of ${each.agent}`, entries.length, 0, most.parameters);
    for (const [name, value] of entries) {
      if (!parameter.test(name)) throw invalid(`"${name.slice(0, 80)}" is not the name of a parameter`);
      if (secrets.includes(name.toLowerCase().replaceAll('-', '_')))
        throw invalid(
          `${name} is a secret: put it into a file on the controller's machine, and give ${name}_file=PATH`,
        );
      checkText(`the parameter ${name}`, value, most.valueBytes);
    }
    if (each.delayMs !== undefined) checkWhole('the delay in milliseconds', each.delayMs, 0, most.delayMs);
    const { delayMs } = each;
    const device = { agent: each.agent, parameters: each.parameters, ...(delayMs === undefined ? {} : { delayMs }) };
    const problem = deviceProblem(device);
    if (problem !== undefined) throw invalid(problem);
    return { agent: each.agent, parameters: { ...each.parameters }, ...(delayMs === undefined ? {} : { delayMs }) };
  });
}
