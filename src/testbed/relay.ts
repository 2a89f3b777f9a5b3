/**
 * A relay that delays frames (this machine's kernel may lack netem): two TAP devices in the switch's namespace,
 * frames of each are written to the other after a fixed time. In Perl because perl-base is on every Debian and Node
 * cannot make a TAP device. Arguments: names of the two devices, milliseconds, number of clock_gettime(2).
 * It says "ready" when both devices are there.
 */
export const relayProgram = String.raw`
use strict; use warnings;
my ($left, $right, $ms, $clock) = @ARGV;
sub now { my $t = "\0" x 16; syscall($clock + 0, 1, $t); my ($s, $n) = unpack("q q", $t); return $s + $n / 1e9 }
sub tap {
  my ($name) = @_;
  open(my $fh, "+<", "/dev/net/tun") or die "cannot open /dev/net/tun: $!\n";
  my $request = pack("a16 s x22", $name, 0x1002);           # IFF_TAP | IFF_NO_PI
  ioctl($fh, 0x400454ca, $request) or die "TUNSETIFF $name: $!\n";
  return $fh;
}
my @fh = (tap($left), tap($right));
$| = 1; print "ready\n";
my @queue; my $limit = 20000;
for (;;) {
  my $wait = @queue ? $queue[0][0] - now() : undef;
  $wait = 0 if defined $wait && $wait < 0;
  my $set = ""; vec($set, fileno($_), 1) = 1 for @fh;
  my $count = select(my $ready = $set, undef, undef, $wait);
  if ($count > 0) {
    for my $i (0, 1) {
      next unless vec($ready, fileno($fh[$i]), 1);
      my $length = sysread($fh[$i], my $frame, 65600);
      push @queue, [now() + $ms / 1000, 1 - $i, $frame] if $length && @queue < $limit;
    }
  }
  my $now = now();
  while (@queue && $queue[0][0] <= $now) { my $item = shift @queue; syswrite($fh[$item->[1]], $item->[2]) }
}
`;

/** Number of the clock_gettime system call (perl-base has no finer clock of its own). */
export function clockGettime(arch: string): number {
  return arch === 'arm64' ? 113 : 228;
}
