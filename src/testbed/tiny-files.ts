/**
 * The tiny guest's own files. Kept as text in the program (not as files beside it) so that they are there in a
 * one-file release too. They run under BusyBox. None may contain a dollar sign followed by a brace, nor a backtick.
 */

/** /etc/rc: from the first process to "answers HTTP". What the answer does not need comes after it. */
const rc = String.raw`#!/bin/sh
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run /tmp /www/cgi-bin
mount -t devpts devpts /dev/pts
for m in $(cat /lib/modules.first); do insmod /lib/modules/$m.ko || echo "tiny: no module $m"; done
tries=0
while [ ! -b /dev/vda2 ] && [ $tries -lt 100 ]; do usleep 20000; tries=$((tries + 1)); done
if mount -t ext4 -o noinit_itable /dev/vda2 /data; then
  boots=$(($(cat /data/boots 2>/dev/null || echo 0) + 1))
  # On disk before HTTP answers: who saw the answer may cut the power.
  echo $boots > /data/boots.new && mv /data/boots.new /data/boots && sync
else
  echo "tiny: no data partition: nothing will be kept"
  boots=0
fi

seed=
for dev in /dev/vdb /dev/vdc /dev/vdd /dev/sr0; do
  [ -b $dev ] || continue
  # The volume's name stands 40 bytes into sector 16 (ECMA-119, 8.4); BusyBox here has no blkid.
  case "$(dd if=$dev bs=8 skip=4101 count=4 2> /dev/null)" in [Cc][Ii][Dd][Aa][Tt][Aa]*) mkdir -p /seed; mount -t iso9660 -o ro $dev /seed && seed=/seed; break ;; esac
done
name=tiny
id=none
if [ -n "$seed" ]; then
  eval "$(awk -f /lib/yaml.awk -f /lib/meta.awk $seed/meta-data)"
fi
hostname "$name"
echo "127.0.0.1 localhost $name" > /etc/hosts

ip link set lo up
echo 1 > /proc/sys/net/ipv6/conf/all/ndisc_notify
# No waiting for duplicate address detection: a guest that answers a second later would look slow.
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
macs=
for nic in /sys/class/net/eth*; do
  [ -e $nic/address ] || continue
  read mac < $nic/address
  dev=$(basename $nic)
  echo 0 > /proc/sys/net/ipv6/conf/$dev/accept_dad
  macs="$macs $mac=$dev"
done
if [ -n "$seed" ] && [ -s $seed/network-config ]; then
  awk -v macs="$macs" -f /lib/yaml.awk -f /lib/net.awk $seed/network-config > /run/network.sh
  . /run/network.sh
elif [ -n "$macs" ]; then
  ip link set eth0 up
  udhcpc -i eth0 -b -S -s /lib/dhcp.sh -x hostname:"$name" > /dev/null 2>&1 &
fi

printf '%s' "$name" > /www/index.html
printf '%s' "$boots" > /www/boots
printf '%s' "$id" > /www/instance-id
cat /proc/sys/kernel/random/boot_id > /www/boot-id
httpd -p 80 -h /www
echo "tiny: $name answers HTTP on$(ip -o addr show scope global | awk '{printf " %s", $4}')" > /dev/console

for m in $(cat /lib/modules.later); do insmod /lib/modules/$m.ko 2> /dev/null; done
acpid -l /run/acpid.log -p /run/acpid.pid
# A processor added at run time comes up offline.
uevent /lib/hotplug.sh > /dev/null 2>&1 &
for port in /sys/class/virtio-ports/*; do
  [ -e $port/name ] && [ "$(cat $port/name)" = org.qemu.guest_agent.0 ] && [ -x /data/.agent/qemu-ga ] || continue
  /data/.agent/ld.so --library-path /data/.agent /data/.agent/qemu-ga -d -t /run -f /run/qemu-ga.pid -p /dev/$(basename $port) -l /run/qemu-ga.log
done

# Once per instance, as cloud-init does; its output goes to the console and to /user-data.log over HTTP.
if [ -n "$seed" ] && [ "$(head -c 2 $seed/user-data 2> /dev/null)" = '#!' ] && [ "$(cat /data/instance 2> /dev/null)" != "$id" ]; then
  cp $seed/user-data /run/user-data && chmod 700 /run/user-data
  echo "$id" > /data/instance
  (cd /; /run/user-data > /www/user-data.log 2>&1; code=$?; cat /www/user-data.log > /dev/console; echo "tiny: user-data ended with code $code" > /dev/console) &
fi
`;

/**
 * Flattens YAML (block and flow style, and so JSON; no anchors, no multi-line scalars) to one call of
 * put(path, value) per scalar, paths joined by "/", list items by their number. Rules are added by a second file.
 */
const yamlAwk = String.raw`
function unquote(s) {
  gsub(/^[ \t]+|[ \t\r]+$/, "", s)
  if (s ~ /^".*"$/ || s ~ /^'.*'$/) s = substr(s, 2, length(s) - 2)
  return s
}
function keyend(s,   q, i) {
  q = substr(s, 1, 1)
  if (q == "\"" || q == "'") {
    i = index(substr(s, 2), q)
    if (i && substr(s, i + 2) ~ /^[ ]*:/) return i + 1 + index(substr(s, i + 2), ":")
    return 0
  }
  if (match(s, /:( |$)/)) return RSTART
  return 0
}
function value(path, s,   k) {
  gsub(/^[ \t]+|[ \t\r]+$/, "", s)
  if (s ~ /^[\[{]/) flow(path, s)
  else { sub(/[ \t]+#.*$/, "", s); put(path, unquote(s)) }
}
function flow(path, s,   map, i, c, depth, quote, item, n, k) {
  map = substr(s, 1, 1) == "{"
  n = 0; depth = 0; quote = ""; item = ""
  for (i = 2; i <= length(s); i++) {
    c = substr(s, i, 1)
    if (quote != "") { if (c == quote) quote = "" }
    else if (c == "\"" || c == "'") quote = c
    else if (c == "[" || c == "{") depth++
    else if ((c == "]" || c == "}") && depth > 0) depth--
    else if ((c == "," || c == "]" || c == "}") && depth == 0) {
      gsub(/^[ \t]+|[ \t]+$/, "", item)
      if (item != "") {
        if (map) { k = keyend(item); value(path "/" unquote(substr(item, 1, k - 1)), substr(item, k + 1)) }
        else value(path "/" n, item)
        n++
      }
      item = ""
      continue
    }
    item = item c
  }
}
function block(line,   n, s, k) {
  match(line, /^ */); n = RLENGTH; s = substr(line, n + 1)
  while (s ~ /^-( |$)/) {
    while (top > 0 && at[top] > n) top--
    if (top > 0 && at[top] == n && list[top]) count[top]++
    else { top++; at[top] = n; list[top] = 1; count[top] = 0; prefix[top] = pending }
    pending = prefix[top] "/" count[top]
    match(s, /^-[ ]*/); n += RLENGTH; s = substr(s, RLENGTH + 1)
    if (s == "") return
  }
  k = s ~ /^[\[{]/ ? 0 : keyend(s)
  if (!k) { value(pending, s); return }
  while (top > 0 && (at[top] > n || (at[top] == n && list[top]))) top--
  if (!(top > 0 && at[top] == n)) { top++; at[top] = n; list[top] = 0; prefix[top] = top == 1 ? "" : pending }
  pending = prefix[top] "/" unquote(substr(s, 1, k - 1))
  s = substr(s, k + 1)
  if (s !~ /^[ \t\r]*(#.*)?$/) value(pending, s)
}
{ lines[++total] = $0; if (first == "" && $0 !~ /^[ \t]*(#.*)?$/ && $0 !~ /^---/) first = $0 }
END {
  if (first ~ /^[ \t]*[{\[]/) { for (l = 1; l <= total; l++) if (lines[l] !~ /^(---|[ \t]*#)/) whole = whole " " lines[l]; sub(/^ +/, "", whole); flow("", whole) }
  else for (l = 1; l <= total; l++) if (lines[l] !~ /^[ \t]*(#.*)?$/ && lines[l] !~ /^(---|\.\.\.)/) block(lines[l])
  finish()
}
`;

/** meta-data → shell assignments of name and id. */
const metaAwk = String.raw`
function quoted(s) { gsub(/[^A-Za-z0-9._:-]/, "", s); return s }
function put(path, v) {
  if (path == "/instance-id") print "id=" quoted(v)
  if (path == "/local-hostname" || (path == "/hostname" && !named)) { named = 1; print "name=" quoted(v) }
}
function finish() {}
`;

/** network-config, version 1 or 2 → shell commands. */
const netAwk = String.raw`
function put(path, v) { sub(/^\/network\//, "/", path); val[path] = v; order[++puts] = path }
function ok(s) { return s ~ /^[A-Za-z0-9.:\/_-]+$/ }
function device(mac, name) {
  mac = tolower(mac)
  if (mac != "" && (mac in bymac)) return bymac[mac]
  if (mac == "" && ok(name)) return name
  return ""
}
function family(a) { return a ~ /:/ ? "-6" : "-4" }
function address(dev, a, mask,   octets, bits, i, o) {
  if (a !~ /\// && mask != "") {
    if (mask ~ /^[0-9]+$/) bits = mask
    else { split(mask, octets, "."); for (i = 1; i <= 4; i++) for (o = octets[i]; o > 0; o = int(o / 2)) bits += o % 2 }
    a = a "/" bits
  }
  if (!ok(a)) return
  print "ip " family(a) " addr add " a " dev " dev
  sub(/\/.*/, "", a)
  if (family(a) == "-4") garp = garp "arping -q -U -c 2 -I " dev " " a " &\n"
}
function route(dev, to, via) {
  if (!ok(to) || !ok(via)) return
  if (to == "0.0.0.0/0" || to == "::/0") to = "default"
  routes = routes "ip " family(via) " route add " to " via " via " dev " dev " || ip " family(via) " route add " to " via " via " dev " dev " onlink\n"
}
function dns(server) { if (ok(server)) print "echo nameserver " server " >> /etc/resolv.conf" }
function up(dev, mtu) {
  if (mtu ~ /^[0-9]+$/) print "ip link set " dev " mtu " mtu
  print "ip link set " dev " up"
}
function dhcp(dev) { print "udhcpc -i " dev " -b -S -s /lib/dhcp.sh > /dev/null 2>&1 &" }
function version2(   i, p, part, id, n, dev, j) {
  for (i = 1; i <= puts; i++) {
    n = split(order[i], part, "/")
    if (part[2] == "ethernets" && !(part[3] in seen)) { seen[part[3]] = 1; ids[++nids] = part[3] }
  }
  for (i = 1; i <= nids; i++) {
    id = ids[i]; p = "/ethernets/" id
    dev = device(val[p "/match/macaddress"], (p "/match/name") in val ? val[p "/match/name"] : id)
    if (dev == "") { print "echo tiny: no interface for " (ok(id) ? id : "one entry"); continue }
    up(dev, val[p "/mtu"])
    for (j = 0; (p "/addresses/" j) in val; j++) address(dev, val[p "/addresses/" j])
    if ((p "/gateway4") in val) route(dev, "default", val[p "/gateway4"])
    if ((p "/gateway6") in val) route(dev, "default", val[p "/gateway6"])
    for (j = 0; (p "/routes/" j "/to") in val; j++) route(dev, val[p "/routes/" j "/to"], val[p "/routes/" j "/via"])
    for (j = 0; (p "/nameservers/addresses/" j) in val; j++) dns(val[p "/nameservers/addresses/" j])
    if (val[p "/dhcp4"] == "true" || val[p "/dhcp4"] == "yes") dhcp(dev)
  }
}
function version1(   i, p, q, s, dev, j) {
  for (i = 0; ("/config/" i "/type") in val; i++) {
    p = "/config/" i
    if (val[p "/type"] == "nameserver") {
      if ((p "/address") in val) dns(val[p "/address"])
      for (j = 0; (p "/address/" j) in val; j++) dns(val[p "/address/" j])
    }
    if (val[p "/type"] != "physical") continue
    dev = device(val[p "/mac_address"], val[p "/name"])
    if (dev == "") { print "echo tiny: no interface for entry " i; continue }
    up(dev, val[p "/mtu"])
    for (s = 0; (p "/subnets/" s "/type") in val; s++) {
      q = p "/subnets/" s
      if (val[q "/type"] ~ /^dhcp/) dhcp(dev)
      else if ((q "/address") in val) address(dev, val[q "/address"], val[q "/netmask"])
      if ((q "/gateway") in val) route(dev, "default", val[q "/gateway"])
      for (j = 0; (q "/routes/" j "/network") in val || (q "/routes/" j "/destination") in val; j++)
        route(dev, val[q "/routes/" j ((q "/routes/" j "/network") in val ? "/network" : "/destination")], val[q "/routes/" j "/gateway"])
      for (j = 0; (q "/dns_nameservers/" j) in val; j++) dns(val[q "/dns_nameservers/" j])
    }
  }
}
function finish(   n, pairs, i, pair) {
  n = split(macs, pairs, " ")
  for (i = 1; i <= n; i++) { split(pairs[i], pair, "="); bymac[tolower(pair[1])] = pair[2] }
  if (val["/version"] == 1) version1(); else version2()
  printf "%s%s", routes, garp
}
`;

const dhcpScript = String.raw`#!/bin/sh
case "$1" in bound|renew)
  ip addr flush dev $interface
  ip addr add $ip/$mask dev $interface
  for r in $router; do ip route add default via $r dev $interface; break; done
  : > /etc/resolv.conf
  for d in $dns; do echo nameserver $d >> /etc/resolv.conf; done
  arping -q -U -c 2 -I $interface $ip &
esac
`;

/** A shell without login on the serial console: it is a guest for tests. */
const inittab = String.raw`::sysinit:/etc/rc
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
`;

const profile = String.raw`export PATH=/sbin:/bin
export PS1="$(hostname):\w# "
`;

/** What QEMU's guest agent calls when asked to shut down. */
const shutdown = String.raw`#!/bin/sh
case " $* " in *" -r "*) exec reboot ;; *" -H "*) exec halt ;; *) exec poweroff ;; esac
`;

const powerButton = String.raw`#!/bin/sh
echo "tiny: power button" > /dev/console
exec poweroff
`;

const hotplug = String.raw`#!/bin/sh
[ "$SUBSYSTEM" = cpu ] && [ "$ACTION" = add ] && echo 1 > "/sys$DEVPATH/online"
exit 0
`;

/** /cgi-bin/info: what a test wants to know, as JSON. */
const info = String.raw`#!/bin/sh
read up rest < /proc/uptime
printf 'Content-Type: application/json\r\n\r\n'
printf '{"name":"%s","instanceId":"%s","bootId":"%s","boots":%s,"uptimeSeconds":%s,"cpus":%s,"memoryKiB":%s}\n' \
  "$(hostname)" "$(cat /www/instance-id)" "$(cat /www/boot-id)" "$(cat /www/boots)" "$up" \
  "$(grep -c ^processor /proc/cpuinfo)" "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)"
`;

/** /cgi-bin/put?KEY=VALUE keeps a value on the disk, durably; /cgi-bin/get?KEY shows it. For tests of disks. */
const put = String.raw`#!/bin/sh
key=$(echo "$QUERY_STRING" | sed -n 's/^\([a-z0-9-]*\)=.*/\1/p')
[ -n "$key" ] || { printf 'Status: 400 Bad Request\r\n\r\nput?key=value\n'; exit 0; }
mkdir -p /data/kept
printf '%s' "$(echo "$QUERY_STRING" | sed 's/^[^=]*=//')" > /data/kept/$key
sync
printf 'Content-Type: text/plain\r\n\r\nkept'
`;

const get = String.raw`#!/bin/sh
key=$(echo "$QUERY_STRING" | sed -n 's/^\([a-z0-9-]*\)$/\1/p')
if [ -n "$key" ] && [ -f /data/kept/$key ]; then printf 'Content-Type: text/plain\r\n\r\n'; cat /data/kept/$key
else printf 'Status: 404 Not Found\r\n\r\nnothing kept under that key\n'; fi
`;

export interface GuestFile {
  readonly path: string;
  readonly mode: number;
  readonly text: string;
}

export const guestFiles: readonly GuestFile[] = [
  { path: 'etc/rc', mode: 0o755, text: rc },
  { path: 'etc/inittab', mode: 0o644, text: inittab },
  { path: 'etc/profile', mode: 0o644, text: profile },
  { path: 'etc/passwd', mode: 0o644, text: 'root::0:0:root:/:/bin/sh\n' },
  { path: 'etc/group', mode: 0o644, text: 'root:x:0:\n' },
  { path: 'etc/acpi/PWRF/00000080', mode: 0o755, text: powerButton },
  { path: 'lib/yaml.awk', mode: 0o644, text: yamlAwk },
  { path: 'lib/meta.awk', mode: 0o644, text: metaAwk },
  { path: 'lib/net.awk', mode: 0o644, text: netAwk },
  { path: 'lib/dhcp.sh', mode: 0o755, text: dhcpScript },
  { path: 'lib/hotplug.sh', mode: 0o755, text: hotplug },
  { path: 'sbin/shutdown', mode: 0o755, text: shutdown },
  { path: 'www/cgi-bin/info', mode: 0o755, text: info },
  { path: 'www/cgi-bin/put', mode: 0o755, text: put },
  { path: 'www/cgi-bin/get', mode: 0o755, text: get },
];

/** Modules (with what they need) that must be there before HTTP is answered, and those that may come after. */
export const modulesFirst = ['virtio_pci', 'virtio_blk', 'virtio_net', 'isofs'] as const;
export const modulesLater = ['button', 'evdev', 'virtio_console', 'virtio_balloon', 'virtio_rng'] as const;

/** Each of the flags up to net.ifnames was measured to save boot time where the guest is emulated (no KVM). */
export const kernelCommandLine =
  'quiet loglevel=3 console=ttyS0 mitigations=off nokaslr cryptomgr.notests no_timer_check 8250.nr_uarts=1 ' +
  'net.ifnames=0 memhp_default_state=online panic=5 rdinit=/sbin/init';
