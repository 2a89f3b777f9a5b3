import { examine, table } from '../setup/doctor/index.ts';

/** `virga doctor [--json]`. Exit code 1 when something is missing that Virga cannot do without. */
export async function doctor(options: { readonly json: boolean }): Promise<number> {
  const findings = await examine();
  const failed = findings.filter((each) => each.state === 'fail').length;
  if (options.json) {
    console.log(JSON.stringify({ ok: failed === 0, findings }, undefined, 2));
  } else {
    console.log(table(findings, process.stdout.isTTY && !process.env['NO_COLOR']));
    console.log(failed === 0 ? '\nThis machine can run Virga.' : `\n${failed} missing: virga up installs what it can.`);
  }
  return failed === 0 ? 0 : 1;
}
