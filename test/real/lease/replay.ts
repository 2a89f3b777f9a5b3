/**
 * Records frames of beats on the cable of a host and sends them again, bytes and addresses unchanged, as somebody on the
 * network could; also mutilated ones. In Perl: Node has no packet sockets, perl-base is on every Debian.
 */
import type { Testbed, TestbedProcess } from '../../../src/testbed/index.ts';

/** Arguments: device, port, seconds of recording. Says how many it has; then sends them all every 100 ms until killed. */
const program = String.raw`
use strict; use warnings;
my ($device, $port, $seconds) = @ARGV;
socket(my $s, 17, 3, 0x0300) or die "packet socket: $!";       # AF_PACKET, SOCK_RAW, ETH_P_ALL in network order
my $ifreq = pack("a16 x24", $device);
ioctl($s, 0x8933, $ifreq) or die "SIOCGIFINDEX: $!";
my $index = unpack("x16 i", $ifreq);
my $address = pack("S n i S C C a8", 17, 3, $index, 0, 0, 6, "");
bind($s, $address) or die "bind: $!";
$| = 1;
my @frames; my $end = time + $seconds;
while (time < $end) {
  my $set = ""; vec($set, fileno($s), 1) = 1;
  next unless select($set, undef, undef, 0.2) > 0;
  recv($s, my $frame, 65536, 0);
  next unless length $frame > 42 && unpack("n", substr $frame, 12, 2) == 0x0800 && ord(substr $frame, 23, 1) == 17;
  push @frames, $frame if unpack("n", substr $frame, 36, 2) == $port && @frames < 200;
}
print scalar(@frames), "\n";
my $n = 0;
for (;;) {
  for my $frame (@frames) {
    send($s, $frame, 0);
    my $broken = $frame; my $at = 42 + ($n++ % (length($frame) - 42));
    substr($broken, $at, 1) = chr(255 ^ ord substr $broken, $at, 1);
    # Without the checksum of UDP, else the kernel drops it before the keeper judges it.
    substr($broken, 40, 2) = "\0\0";
    send($s, $broken, 0);
  }
  select(undef, undef, undef, 0.1);
}
`;

export interface Replay extends AsyncDisposable {
  /** Frames that were recorded. */
  readonly frames: number;
}

/** Records on the switch's end of a cable, then replays there until disposed of: what goes out reaches that host. */
export async function replay(testbed: Testbed, device: string, port: number, seconds: number): Promise<Replay> {
  const started: TestbedProcess = await testbed.switchSpawn(['perl', '-e', program, device, `${port}`, `${seconds}`]);
  let errors = '';
  started.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const { promise, resolve } = Promise.withResolvers<string>();
  started.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString()));
  const first = await Promise.race([promise, started.exited.then(() => '')]);
  if (first === '') throw new Error(`the recorder ended: ${errors}`);
  return {
    frames: Number(first),
    [Symbol.asyncDispose]: async () => {
      started.kill('SIGKILL');
      await started.exited;
    },
  };
}
