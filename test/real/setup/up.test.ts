/**
 * `virga up`, `down` and `doctor` as a user runs them, in namespaces of their own: an own /run, own libvirt folders and
 * an own network, so that the machine's own site, if it has one, is not touched.
 */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { program, ran, virga } from '../../kit/virga.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virga-up-'));
  // The database's user passes through.
  await chmod(folder, 0o711);
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Steps separated by `=== NAME`; each line of a step's output and its exit code follow. */
const story = `set -u
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
for d in /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do mkdir -p "$d"; mount -t tmpfs tmpfs "$d"; done
cp -a /etc/libvirt "$FOLDER/etc-libvirt" 2>/dev/null || mkdir -p "$FOLDER/etc-libvirt"
mkdir -p /etc/libvirt; mount --bind "$FOLDER/etc-libvirt" /etc/libvirt
step() { name=$1; shift; echo "=== $name"; "$@" 2>&1; echo "=== exit $?"; }
step down-before "$VIRGA" down
step up "$VIRGA" up --detach --yes --data "$FOLDER/data" --name mine
step up-again "$VIRGA" up --detach --yes --data "$FOLDER/data"
step status "$VIRGA" status --json
step hosts "$VIRGA" host list --json
keepers='for part in keeper guard; do read -r pid start < /run/virga/$part.part && [ -d /proc/$pid ] && echo "$part $pid $start"; done'
step lasting sh -c "$keepers"
step socket stat -c '%U:%G %a' /run/virga/virga.sock
step nobody setpriv --reuid 65534 --regid 65534 --clear-groups test -w /run/virga/virga.sock
step bad-option "$VIRGA" up --nonsense
step down "$VIRGA" down
step down-again "$VIRGA" down
step status-after "$VIRGA" status
step lasting-down sh -c "$keepers"
step up-once-more "$VIRGA" up --detach --yes --data "$FOLDER/data"
step lasting-again sh -c "$keepers"
kill -KILL "$(cut -d' ' -f1 /run/virga/up.pid)"
step down-orphans "$VIRGA" down
count='for p in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$p"; echo; done | grep -cE'
step left sh -c "$count '[c]ontroller run|[a]gent run|^[l]ibvirtd|[p]ostgres -D' || true"
step lasting-orphans sh -c "$keepers"
step up-last "$VIRGA" up --detach --yes --data "$FOLDER/data"
step down-guests "$VIRGA" down --guests
step none-left sh -c "$count '[c]ontroller run|[a]gent run|[k]eeper run|[g]uard run' || true"
`;

test('up, down, and who may speak to it', { timeout: 210_000 }, async () => {
  const script = join(folder, 'story.sh');
  await writeFile(script, story);
  const { stdout, stderr } = await ran(
    'unshare',
    [
      '--mount',
      '--net',
      '--pid',
      '--ipc',
      '--uts',
      '--fork',
      '--kill-child',
      '--mount-proc',
      '--propagation',
      'private',
      'bash',
      script,
    ],
    200_000,
    { FOLDER: folder, VIRGA: program },
  );
  const steps = new Map<string, { text: string; code: number }>();
  for (const match of stdout.matchAll(/=== ([a-z-]+)\n([\s\S]*?)=== exit (\d+)\n/g))
    steps.set(match[1] ?? '', { text: match[2] ?? '', code: Number(match[3]) });
  const step = (name: string): { text: string; code: number } =>
    steps.get(name) ?? assert.fail(`${name} did not run:\n${stdout}\n${stderr}`);

  assert.match(step('down-before').text, /already down/);
  const log = await readFile(join(folder, 'data/up.log'), 'utf8').catch(() => 'no log');
  assert.equal(step('up').code, 0, `${step('up').text}\n${log}`);
  assert.match(step('up').text, /mine is up in the background/);
  assert.match(step('up-again').text, /already up/);
  const status = JSON.parse(step('status').text) as { name: string; leading: boolean; hosts: Record<string, number> };
  assert.equal(status.name, 'mine');
  assert.equal(status.leading, true);
  assert.deepEqual(status.hosts, { online: 1 });
  const [host] = JSON.parse(step('hosts').text) as { status: { engine: { arch: string } } }[];
  assert.equal(typeof host?.status.engine.arch, 'string');
  assert.equal(step('socket').text.trim(), 'root:virga 660');
  assert.equal(step('nobody').code, 1, 'anybody may open the administrators’ socket');
  assert.equal(step('bad-option').code, 2);
  assert.match(step('down').text, /down; guests run on/);
  assert.match(step('down-again').text, /already down/);
  assert.equal(step('status-after').code, 3);
  assert.equal(step('up-once-more').code, 0, step('up-once-more').text);
  assert.match(step('down-orphans').text, /had been killed; ended agent, controller, libvirtd/);
  assert.equal(step('left').text.trim(), '0', 'processes are left');
  const lasting = step('lasting').text;
  assert.match(lasting, /^keeper \d+ \d+\nguard \d+ \d+\n$/);
  for (const later of ['lasting-down', 'lasting-again', 'lasting-orphans'])
    assert.equal(step(later).text, lasting, `keeper and guard are others at ${later}: the guests' lease was let go`);
  assert.equal(step('up-last').code, 0, step('up-last').text);
  assert.equal(step('down-guests').code, 0, step('down-guests').text);
  assert.equal(step('none-left').text.trim(), '0', 'keeper and guard are left without guests');
});

test('doctor names every finding, in words and as JSON', { timeout: 60_000 }, async () => {
  const told = await virga(['doctor']);
  const json = await virga(['doctor', '--json']);
  const { ok, findings } = JSON.parse(json.stdout) as {
    ok: boolean;
    findings: { title: string; state: string; found: string; todo?: string }[];
  };
  assert.equal(told.code, ok ? 0 : 1);
  for (const title of [
    'KVM',
    'libvirt',
    'QEMU',
    'PostgreSQL',
    'nftables',
    'libvirt-guests service',
    'bridges',
    'sandbox',
  ])
    assert.ok(
      findings.some((each) => each.title === title),
      `doctor says nothing of ${title}`,
    );
  for (const { title, state, todo } of findings) {
    assert.ok(told.stdout.includes(title));
    if (state === 'fail' || state === 'warn')
      assert.ok((todo ?? '').length > 10, `${title}: ${state}, and not what to do`);
  }
});
