import { existsSync, lstatSync, readFileSync } from 'node:fs';

/** Ours are known by this line. */
const mark = '# written by virga while it installs packages';

/** True when a script that was killed (kill -9) left something to put back, or one is at work. */
export function hasLeftovers(root: string): boolean {
  const policy = `${root}/usr/sbin/policy-rc.d`;
  if (lstatSync(`${policy}.before-virga`, { throwIfNoEntry: false }) !== undefined) return true;
  if (existsSync(`${root}/etc/postgresql-common/createcluster.d/zz-virga-install.conf`)) return true;
  return existsSync(policy) && readFileSync(policy, 'utf8').includes(mark);
}

/**
 * The shell script that runs apt-get while services are kept from starting and no default database cluster is made.
 * A process of its own, in a session of its own: it ends its work and puts everything back also when the program
 * that started it is killed. What a kill -9 of the script itself leaves is put back by the next call ("repair").
 *
 * Arguments: "repair", or "install" and apt-get's arguments. ROOT (empty on a real system) is put before all paths.
 */
export const installScript = String.raw`
set -u
policy=$ROOT/usr/sbin/policy-rc.d
saved=$policy.before-virga
clusters=$ROOT/etc/postgresql-common/createcluster.d
cluster=$clusters/zz-virga-install.conf
mark='${mark}'

restore() {
  # Ours goes first only when no older one waits to be put back over it: there is no moment without the older one.
  if [ -e "$saved" ] || [ -L "$saved" ]; then mv -f "$saved" "$policy"
  elif [ -f "$policy" ] && grep -qF "$mark" "$policy"; then rm -f "$policy"; fi
  rm -f "$policy.virga-new"
  if [ -f "$cluster" ]; then rm -f "$cluster"; fi
  # Made by us when nothing is in it and no package owns it.
  for dir in "$clusters" "$ROOT/etc/postgresql-common"; do
    if [ -d "$dir" ] && ! dpkg-query -S "$dir" > /dev/null 2>&1; then rmdir "$dir" 2> /dev/null; fi
  done
  return 0
}

# A lock of the script's own, not of the program that started it: that one may be dead while this one works on.
mkdir -p "$ROOT/var/cache/virga" && exec 8> "$ROOT/var/cache/virga/apt.lock" && flock -w 1200 8 || {
  echo 'E: another installation holds /var/cache/virga/apt.lock'
  exit 75
}
restore
[ "$1" = install ] || exit 0
shift
trap restore EXIT
trap '' HUP INT PIPE
trap 'exit 143' TERM

printf '#!/bin/sh\n%s\nexit 101\n' "$mark" > "$policy.virga-new" && chmod 755 "$policy.virga-new" || exit 1
if [ -e "$policy" ] || [ -L "$policy" ]; then ln -f "$policy" "$saved" 2> /dev/null || cp -a "$policy" "$saved" || exit 1; fi
mv -f "$policy.virga-new" "$policy" || exit 1
mkdir -p "$clusters" && printf 'create_main_cluster = false\n' > "$cluster" || exit 1
# Nobody may be left to read: apt-get's output goes through a loop that does not mind, else dpkg would break off.
status=$(mktemp) || exit 1
{ "$APT" "$@" < /dev/null 2>&1 8>&-; echo "$?" > "$status"; } | while IFS= read -r line; do
  printf '%s\n' "$line" 2> /dev/null || :
done
code=$(cat "$status")
rm -f "$status"
[ -n "$code" ] || code=1
exit "$code"
`;
