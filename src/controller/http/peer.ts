/**
 * Who is at the other end of a unix socket. Node cannot ask the kernel, so the accepted socket is handed to a small
 * helper (perl is part of every Debian and RHEL base system; python3 otherwise) that asks SO_PEERCRED (socket(7)).
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { VirgaError } from '../../core/errors.ts';

export interface Peer {
  readonly uid: number;
  readonly name: string;
  /** Member of the administrators' group. */
  readonly member: boolean;
}

/** SOL_SOCKET 1, SO_PEERCRED 17 (Linux, all our architectures); struct ucred is three 32-bit numbers: pid, uid, gid. */
const perl = `
my $group = shift; open(my $s, "+<&=", 3) or die "no socket";
my $c = getsockopt($s, 1, 17); my (undef, $uid) = unpack("iii", $c);
my ($name, undef, undef, $gid) = getpwuid($uid); $name = "uid-$uid" unless defined $name;
my (undef, undef, $wanted, $members) = getgrnam($group);
my $in = defined $wanted && ((defined $gid && $gid == $wanted) || grep { $_ eq $name } split(/ /, $members));
print "$uid $name ", ($in ? 1 : 0), "\\n";`;
const python = `
import socket, struct, sys, pwd, grp
s = socket.socket(fileno=3); uid = struct.unpack("iii", s.getsockopt(1, 17, 12))[1]
try: p = pwd.getpwuid(uid); name, gid = p.pw_name, p.pw_gid
except KeyError: name, gid = "uid-%d" % uid, -1
try: g = grp.getgrnam(sys.argv[1]); member = gid == g.gr_gid or name in g.gr_mem
except KeyError: member = False
print(uid, name, int(member))`;
const helpers = [
  { program: 'perl', args: ['-e', perl] },
  { program: 'python3', args: ['-c', python] },
] as const;

const helperMs = 5000;
const maxHelpers = 8;
const maxWaiting = 256;
let running = 0;
const waiting: (() => void)[] = [];

/**
 * Asks the kernel for the peer of an accepted connection.
 * @throws VirgaError unauthenticated when that cannot be found out · overloaded
 */
export async function askPeer(socket: Socket, group: string): Promise<Peer> {
  if (running >= maxHelpers) {
    if (waiting.length >= maxWaiting)
      throw new VirgaError('overloaded', { what: 'new connections', limit: maxWaiting });
    await new Promise<void>((resolve) => {
      waiting.push(resolve);
    });
  }
  running += 1;
  try {
    return await askHelpers(socket, group);
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

async function askHelpers(socket: Socket, group: string): Promise<Peer> {
  let failure: unknown;
  for (const { program, args } of helpers) {
    // Undocumented, but steady since the first versions; handing over the socket object would stop its reading.
    const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
    if (fd === undefined || fd < 0) break;
    try {
      return parse(await run(program, [...args, group], fd));
    } catch (error) {
      failure = error;
    }
  }
  throw new VirgaError('unauthenticated', { detail: 'the peer of this socket is not known' }, { cause: failure });
}

async function run(program: string, args: readonly string[], fd: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // As descriptor 3: for 0 to 2 the child would make the shared socket blocking.
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'ignore', fd],
      timeout: helperMs,
      killSignal: 'SIGKILL',
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    });
    let out = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      if (out.length < 1000) out += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${program} ended with ${code ?? 'a signal'}`));
    });
  });
}

function parse(line: string): Peer {
  const match = /^(\d+) (\S+) ([01])$/.exec(line.trim());
  if (!match) throw new Error(`the helper said "${line.slice(0, 100)}"`);
  return { uid: Number(match[1]), name: match[2] ?? '', member: match[3] === '1' };
}
