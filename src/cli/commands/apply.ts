/** `virga apply|diff|export`: the site as a file. */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { parse } from 'yaml';
import {
  exportSite,
  isEmpty,
  jsonSchema,
  parseSiteFile,
  planSite,
  type Difference,
  type Plan,
  type SiteFile,
  type SiteState,
  type Step,
} from '../../api/site-file.ts';
import { leaf, type Call, type Shell } from '../call.ts';
import { confirm, readStdin } from '../confirm.ts';
import { readText } from '../contexts.ts';
import { exitCodes, Failure, fileFailure, plain, usage } from '../failure.ts';
import { listAll } from '../lists.ts';
import { carryOut, subjectOf, type Done } from '../site/carry-out.ts';
import type { Paint } from '../ui/style.ts';
import { counted } from '../units.ts';

interface FileOptions {
  readonly file?: string;
  readonly prune?: boolean;
  readonly replace?: boolean;
  readonly schema?: boolean;
}

const mostBytes = 8 * 1024 * 1024;

async function readSiteFile(call: Call<FileOptions>): Promise<SiteFile> {
  const path = call.options.file;
  if (path === undefined) throw usage('say which file: -f site.yaml (- is standard input)');
  return path === '-'
    ? parseSiteFile('standard input', await readStdin(call.io, mostBytes))
    : parseSiteFile(path, readText(path));
}

/** @param settings - whether those of the site are wanted, too. */
export async function readState(call: Pick<Call, 'client' | 'io'>, settings: boolean): Promise<SiteState> {
  const signal = call.io.interrupted;
  const [site, hosts, networks, images, guests] = await Promise.all([
    settings ? call.client.call('site.settings', { signal }) : undefined,
    listAll(call.client, 'host.list', {}, signal),
    listAll(call.client, 'network.list', {}, signal),
    listAll(call.client, 'image.list', {}, signal),
    listAll(call.client, 'guest.list', {}, signal),
  ]);
  const lists = { hosts: hosts.items, networks: networks.items, images: images.items, guests: guests.items };
  return site ? { settings: site, ...lists } : lists;
}

const marks: Readonly<Record<Step['action'], readonly [string, Parameters<Paint>[0]]>> = {
  create: ['+', 'good'],
  change: ['~', 'busy'],
  replace: ['±', 'bad'],
  delete: ['-', 'bad'],
};

function differenceText({ field, old, new: to, fixed }: Difference): string {
  const short = (text: string | undefined): string => {
    const line = (text ?? '(none)').replaceAll('\n', '⏎');
    return line.length > 60 ? `${line.slice(0, 59)}…` : line;
  };
  return `${field}: ${short(old)} → ${short(to)}${fixed ? '  (cannot be changed)' : ''}`;
}

/** The plan, for people. */
export function planLines(plan: Plan, paint: Paint): string[] {
  const lines: string[] = [];
  for (const step of plan.steps) {
    const [mark, tone] = marks[step.action];
    const { kind, name } = subjectOf(step);
    const lost = kind === 'guest' ? ', what its disk holds is lost' : '';
    lines.push(paint(tone, plain(`${mark} ${kind} ${name}${step.action === 'replace' ? `  made anew${lost}` : ''}`)));
    if (step.action === 'create' && step.create.kind !== 'image')
      lines.push(...createdLines(step.create.body).map((each) => `    ${plain(each)}`));
    if (step.action === 'create' && step.create.kind === 'image')
      lines.push(`    from ${plain(step.create.entry.url ?? step.create.entry.file ?? '')}`);
    if (step.action === 'change' || step.action === 'replace')
      lines.push(...step.differences.map((each) => `    ${plain(differenceText(each))}`));
  }
  for (const each of plan.waiting) lines.push(paint('busy', plain(`! ${each.kind} ${each.name}: ${each.why}`)));
  return lines;
}

function createdLines(body: object): string[] {
  return Object.entries(body)
    .filter(([key]) => !['name', 'origin', 'userData', 'sshKeys'].includes(key))
    .map(([key, value]) => `${key}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
}

function summary(plan: Plan): string {
  const count = (action: Step['action']): number => plan.steps.filter((step) => step.action === action).length;
  const words = [
    [count('create'), 'to create'],
    [count('change'), 'to change'],
    [count('replace'), 'to make anew'],
    [count('delete'), 'to delete'],
  ] as const;
  return words
    .filter(([number]) => number > 0)
    .map(([number, word]) => `${number} ${word}`)
    .join(', ');
}

function tellKept(call: Call, plan: Plan): void {
  if (plan.kept.length === 0) return;
  const names = plan.kept.slice(0, 5).map((each) => `${each.kind} ${each.name}`);
  const more = plan.kept.length > 5 ? ` and ${plan.kept.length - 5} more` : '';
  call.out.note(`Created by this file and no longer in it: ${names.join(', ')}${more}. --prune deletes them.`);
}

/** The plan as JSON: the steps with their differences, without the requests behind them. */
export function planDocument(plan: Plan): object {
  return {
    site: plan.site,
    steps: plan.steps.map((step) => ({
      action: step.action,
      ...subjectOf(step),
      ...('differences' in step ? { differences: step.differences } : {}),
    })),
    kept: plan.kept,
    waiting: plan.waiting,
  };
}

async function diff(call: Call<FileOptions>): Promise<number> {
  const file = await readSiteFile(call);
  const plan = planSite(file, await readState(call, file.settings !== undefined), {
    prune: call.options.prune === true,
  });
  call.out.document(planDocument(plan));
  call.out.lines(planLines(plan, call.out.paint));
  tellKept(call, plan);
  if (isEmpty(plan)) call.out.note('The site is as the file says.');
  else call.out.note(`\n${summary(plan) || counted(plan.waiting.length, 'host') + ' missing'}`);
  return isEmpty(plan) ? exitCodes.ok : exitCodes.refused;
}

async function apply(call: Call<FileOptions>): Promise<number> {
  if (call.options.schema === true) {
    call.io.stdout.write(`${JSON.stringify(jsonSchema(), undefined, 2)}\n`);
    return exitCodes.ok;
  }
  if (call.options.file === '-' && call.options.yes !== true)
    throw usage('with the file on standard input there is nobody to ask: add --yes');
  const file = await readSiteFile(call);
  const plan = planSite(file, await readState(call, file.settings !== undefined), {
    prune: call.options.prune === true,
  });
  call.out.lines(planLines(plan, call.out.paint));
  tellKept(call, plan);
  const done: Done[] = [];
  if (plan.steps.length > 0) {
    mayReplace(call, plan);
    await confirm(call, `This changes the site: ${summary(plan)}`);
    await doIt(call, plan, done);
  }
  call.out.document({ plan: planDocument(plan), done });
  if (plan.steps.length === 0 && plan.waiting.length === 0) call.out.note('The site is as the file says already.');
  else
    call.out.note(
      `${counted(done.length, 'step')} done${plan.waiting.length > 0 ? `; ${counted(plan.waiting.length, 'host')} missing` : ''}.`,
    );
  return plan.waiting.length > 0 ? exitCodes.refused : exitCodes.ok;
}

/** What must be made anew is lost; that is never done by the way. */
function mayReplace(call: Call<FileOptions>, plan: Plan): void {
  const replaced = plan.steps.filter((step) => step.action === 'replace').map((step) => subjectOf(step));
  if (replaced.length === 0 || call.options.replace === true) return;
  const names = replaced.slice(0, 5).map((each) => `${each.kind} ${each.name}`);
  const many = replaced.length > 5 ? ` and ${replaced.length - 5} more` : '';
  const lost = replaced.some((each) => each.kind === 'guest') ? '; what the disks of guests hold is lost' : '';
  throw new Failure(exitCodes.declined, 'confirmation_required', {
    what: `${names.join(', ')}${many} can only be made anew${lost}. Nothing was done`,
    how: '--replace',
  });
}

async function doIt(call: Call<FileOptions>, plan: Plan, done: Done[]): Promise<void> {
  const past: Readonly<Record<Step['action'], string>> = {
    create: 'created',
    change: 'changed',
    replace: 'made anew',
    delete: 'deleted',
  };
  try {
    await carryOut(call, plan, call.options.file ?? '', (each) => {
      done.push(each);
      call.out.line(`${each.kind} ${each.name} ${past[each.action]}`);
    });
  } catch (error) {
    const left = plan.steps.slice(done.length).map((step) => subjectOf(step));
    const [failed, ...rest] = left;
    if (!call.out.json)
      call.io.stderr.write(
        plain(
          `virga: stopped at ${failed?.kind} ${failed?.name}; ${counted(done.length, 'step')} done, ${
            rest.length > 0
              ? `not tried: ${rest
                  .map((each) => `${each.kind} ${each.name}`)
                  .slice(0, 10)
                  .join(', ')}${rest.length > 10 ? ' …' : ''}`
              : 'nothing else was left'
          }. The same command goes on from here.\n`,
        ),
      );
    throw error;
  }
}

async function exporting(call: Call<{ readonly site?: string }>): Promise<void> {
  const state = await readState(call, true);
  const name = call.options.site ?? siteName((await call.client.call('site.status', call.look)).name);
  const text = exportSite(name, state);
  // What is written must be readable; a fault shows now, not when it is needed.
  parseSiteFile('export', text);
  const [path] = call.args;
  if (call.out.json) call.out.document(parse(text));
  else if (path === undefined || path === '-') call.io.stdout.write(text);
  else {
    try {
      writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
    } catch (error) {
      throw fileFailure(path, error);
    }
    call.out.line(path);
  }
}

/** The site's own name as a name in a file. */
function siteName(name: string): string {
  const made = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '');
  return made === '' ? 'site' : made;
}

export function applyCommands(program: Command, shell: Shell): void {
  leaf<FileOptions>(program, shell, {
    syntax: 'apply',
    summary: 'Make the site what a file says',
    detail:
      'Shows the plan and asks. Nothing is deleted without --prune, and then only what this file created. ' +
      'It stops at the first error and says what was done; the same command goes on from there.',
    manner: 'destroy',
    options: (command) =>
      command
        .option('-f, --file <file>', 'the site file; - is standard input')
        .option('--prune', 'delete what this file created and no longer has')
        .option('--replace', 'make anew what cannot be changed; what its disks hold is lost')
        .option('--schema', 'print the JSON schema of site files, for editors'),
    examples: ['apply -f site.yaml', 'apply -f site.yaml --prune --yes', 'apply --schema > site.schema.json'],
    run: apply,
  });
  leaf<FileOptions>(program, shell, {
    syntax: 'diff',
    summary: 'Show what apply would do; exit code 1 when there is something',
    manner: 'look',
    options: (command) =>
      command
        .option('-f, --file <file>', 'the site file; - is standard input')
        .option('--prune', 'count what would be deleted too'),
    examples: ['diff -f site.yaml', 'diff -f site.yaml --json'],
    run: diff,
  });
  leaf<{ readonly site?: string }>(program, shell, {
    syntax: 'export [file]',
    summary: 'Write the site as a site file',
    detail:
      'Applied to the same site it changes nothing. Disks, bytes of images and tokens are not in it; user data is.',
    manner: 'look',
    options: (command) => command.option('--site <name>', 'name of the file; otherwise of the site'),
    examples: ['export site.yaml', 'export --site lab > lab.yaml'],
    run: exporting,
  });
}
