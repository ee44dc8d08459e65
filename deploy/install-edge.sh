#!/bin/sh
# Installs the edge on a Raspberry Pi, or any other Debian with systemd, and undoes that again. See --help.
set -eu

usage() {
  cat <<'TEXT'
Install the edge as a service, from the clone this script is in:

  sudo deploy/install-edge.sh --server https://solar.example.org --inverter 192.168.1.20 \
                              --device roof --timezone Europe/Berlin

It asks for the token that `sungrow-server token create --scope ingest --device roof` printed on the server.
Run again, it brings what is installed to the version of the clone and leaves settings and readings alone; then
it needs no option.

  --server URL        your server; https:// only
  --inverter HOST     name or address of the inverter or its dongle
  --port NUMBER       its Modbus TCP port; 502 unless given
  --device ID         what the server is to call it: letters, digits, dots, hyphens, underscores
  --timezone ZONE     the site's zone, such as Europe/Berlin
  --token-file FILE   file that holds the token; asked for unless given
  --ca FILE           certificate of a private authority, where the server's is not publicly known
  --uninstall         remove the service and its programs; settings and readings stay
  --purge             with --uninstall: remove settings and readings, too; refused while there is a reading in any
                      state but delivered, or a damaged file. Take readings along first: sungrow-edge spool export
  --discard-readings  with --purge: remove such readings and files all the same
  --root DIR          put everything under DIR and start nothing, for an image or a trial

It writes /opt/sungrow-edge (programs), /etc/sungrow-edge (settings), /var/lib/sungrow-edge (readings),
/usr/local/bin/sungrow and sungrow-edge, and a unit of systemd. Exit status: 0 done, 1 it failed, 2 wrong use.
TEXT
}

fail() {
  echo "install-edge: $1" >&2
  exit "${2:-1}"
}

server='' inverter='' port=502 device='' timezone='' token_file='' ca='' root='' job=install purge=no discard=no
while [ $# -gt 0 ]; do
  case $1 in
    --server | --inverter | --port | --device | --timezone | --token-file | --ca | --root)
      [ $# -gt 1 ] || fail "$1 needs a value; see --help" 2
      case $1 in
        --server) server=$2 ;;
        --inverter) inverter=$2 ;;
        --port) port=$2 ;;
        --device) device=$2 ;;
        --timezone) timezone=$2 ;;
        --token-file) token_file=$2 ;;
        --ca) ca=$2 ;;
        --root) root=$2 ;;
      esac
      case $2 in *[\"\\]*) fail "$1 must not hold quotation marks or backslashes" 2 ;; esac
      shift 2
      ;;
    --uninstall) job=uninstall && shift ;;
    --purge) purge=yes && shift ;;
    --discard-readings) discard=yes && shift ;;
    --help | -h) usage && exit 0 ;;
    *) fail "$1 is no option; see --help" 2 ;;
  esac
done
[ "$purge" = no ] || [ "$job" = uninstall ] || fail "--purge goes with --uninstall" 2
[ "$discard" = no ] || [ "$purge" = yes ] || fail "--discard-readings goes with --purge" 2

source=$(cd "$(dirname "$0")/.." && pwd)
programs=$root/opt/sungrow-edge
settings=$root/etc/sungrow-edge
readings=$root/var/lib/sungrow-edge
locks=$root/run/sungrow-edge
health=$root/run/sungrow-edge-health
units=$root/etc/systemd/system
temporary=$root/etc/tmpfiles.d/sungrow-edge.conf
commands=$root/usr/local/bin
user=sungrow-edge

# What follows changes the running system; with --root there is none.
on_system() { [ -n "$root" ] || "$@"; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0 ..." 2

# ------------------------------------------------------------------------------------------- uninstall

# What a spool holds that no server has: "3 pending, 2 waiting"; nothing, when all is delivered.
undelivered() {
  "$commands/sungrow-edge" spool stats --json --spool "$1" 2>/dev/null |
    "$programs/bin/python" -c '
import json, sys
from collections import Counter
kept = Counter()
for counted in json.load(sys.stdin)["devices"].values():
    kept.update(counted)
del kept["delivered"]
print(", ".join(f"{number} {state}" for state, number in kept.items() if number))' 2>/dev/null ||
    echo unreadable
}

is_filled() { [ -s "$1" ] || [ -s "$1-wal" ]; }

# Every entry of the folder, one a line, with those whose names begin with a dot.
entries() {
  for file in "$readings"/* "$readings"/.[!.]* "$readings"/..?*; do
    if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\n' "${file##*/}"; fi
  done
}

# What is known of a file by its name: `nothing` in it is undelivered, a `spool` or a `log` to be looked at, `damaged`,
# `found` in the spool's place or `taken` in from there, a `part` of one. Of any other name nothing is known.
known_as() {
  case $1 in
    sungrow-state | *.sqlite-shm | *.sqlite-reserve | *.sqlite.lock) echo nothing ;;
    *.sqlite.owner.json | *.sqlite.owner.json.new | *.sqlite.health.json | *.sqlite.health.json.new) echo nothing ;;
    *.sqlite.damaged-*) echo damaged ;;
    *.sqlite.replaced-*.done-wal | *.sqlite.replaced-*.done-shm | *.sqlite.replaced-*.done-journal) echo nothing ;;
    *.sqlite.replaced-*.done) echo taken ;;
    *.sqlite.replaced-*) echo found ;;
    *.sqlite.recovering | *.sqlite.recovering-* | *.sqlite.returning | *.sqlite.returning-*) echo part ;;
    *.sqlite.leaving-part | *.sqlite.leaving-part-* | *.sqlite.draft | *.sqlite.draft-*) echo part ;;
    *.sqlite) echo spool ;;
    *.sqlite-wal | *.sqlite-journal) echo log ;;
  esac
}

# What would be lost with the folder, file by file.
lost_with_it() {
  entries | while IFS= read -r name; do
    file=$readings/$name
    kept=''
    case $(known_as "$name") in
      damaged) kept="damaged, perhaps with readings that were not taken over" ;;
      # The spool took in its readings; unless it could not be read.
      taken) if is_filled "$file"; then kept=$(undelivered "$file" </dev/null | grep unreadable || true); fi ;;
      found) if is_filled "$file"; then kept="found in the spool's place, and not taken in"; fi ;;
      part) if is_filled "$file"; then kept="part of a spool that is not in its place"; fi ;;
      spool) if is_filled "$file"; then kept=$(undelivered "$file" </dev/null); fi ;;
      log) [ -e "${file%-*}" ] || kept="log of a spool that is not there" ;;
    esac
    [ -z "$kept" ] || printf '%s' "$name: $kept; "
  done
}

# What somebody else put there, such as an export or a copy of the spool.
not_ours() {
  entries | while IFS= read -r name; do
    [ -n "$(known_as "$name")" ] || printf '%s' "$name "
  done
}

require_purgeable() {
  reason=''
  others=$(not_ours)
  if [ -n "$others" ]; then
    reason="$readings holds files that are not the edge's, or copies of its own; move them elsewhere: $others"
  elif [ "$discard" = no ]; then
    kept=$(lost_with_it)
    [ -z "$kept" ] || reason="$readings holds what no server has (${kept%; }). Let the edge deliver it (sudo \
sungrow-edge status); or take it along, sudo sungrow-edge spool export >readings.ndjson, and add --discard-readings"
  fi
  [ -n "$reason" ] || return 0
  if [ "$was_running" = yes ]; then systemctl start sungrow-edge.service; fi
  fail "not purged: $reason"
}

# Where SPOOL_PATH puts the spool, in the settings or in a drop-in of the unit, if that is outside of our folder.
spool_elsewhere() {
  {
    "$programs/bin/python" -c 'import sys, tomllib
print(tomllib.load(open(sys.argv[1], "rb")).get("spool_path", ""))' "$settings/edge.toml" 2>/dev/null || true
    cat "$units"/sungrow-edge.service.d/*.conf 2>/dev/null |
      sed -n 's/^[[:space:]]*Environment=.*SPOOL_PATH=\([^"[:space:]]*\).*/\1/p' || true
  } | while IFS= read -r place; do
    case $place in '' | "$readings"/*) ;; *) printf '%s\n' "$place" ;; esac
  done | sort -u
}

# What becomes of that: nothing. It may hold what no server has.
say_elsewhere() {
  printf '%s\n' "$1" | while IFS= read -r place; do
    [ -z "$place" ] || echo "A spool is elsewhere (SPOOL_PATH), and was left alone: $place"
  done
}

uninstall() {
  elsewhere=$(spool_elsewhere)
  if [ "$purge" = yes ]; then
    was_running=no
    if on_system systemctl is-active --quiet sungrow-edge.service 2>/dev/null && [ -z "$root" ]; then
      # First, so that no reading comes while it is looked at, and none is left in memory.
      was_running=yes
      systemctl stop sungrow-edge.service
    fi
    require_purgeable
  fi
  on_system systemctl disable --now sungrow-edge.service 2>/dev/null || true
  rm -rf "$programs" "$locks" "$health"
  rm -f "$units/sungrow-edge.service" "$temporary" "$commands/sungrow" "$commands/sungrow-edge"
  on_system systemctl daemon-reload
  if [ "$purge" = yes ]; then
    rm -rf "$settings" "$readings"
    if id "$user" >/dev/null 2>&1; then on_system userdel "$user"; fi
    echo "The edge is gone, with its settings and readings."
  else
    echo "The edge is gone. Settings are still in $settings, readings in $readings."
  fi
  say_elsewhere "$elsewhere"
}

# ------------------------------------------------------------------------------------------- install

check_machine() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed: Raspberry Pi OS of 2023 (bookworm) or later has it"
  python3 -c 'import ensurepip, venv' 2>/dev/null || fail "a package is missing: apt install python3-venv"
  [ "$(getconf LONG_BIT)" = 64 ] || fail "a 64-bit system is needed; Raspberry Pi OS comes in one for Pi 3 and later"
}

check_options() {
  for given in "$server" "$inverter" "$device"; do
    [ -n "$given" ] || fail "the first time, --server, --inverter and --device are needed; see --help" 2
  done
  case $server in https://*) ;; *) fail "--server must begin with https://" 2 ;; esac
  [ -z "$token_file" ] || [ -r "$token_file" ] || fail "cannot read the token in $token_file" 2
  [ -z "$ca" ] || [ -r "$ca" ] || fail "cannot read the certificate in $ca" 2
}

install_programs() {
  echo "Installing the programs (a minute or two on a Pi)"
  [ -x "$programs/bin/python" ] || python3 -m venv "$programs"
  pip() { "$programs/bin/python" -m pip --disable-pip-version-check --quiet install --no-cache-dir "$@"; }
  pip --require-hashes --requirement "$source/requirements/edge.lock" --requirement "$source/requirements/build.lock"
  # The web page is the server's; an edge needs none.
  HATCH_BUILD_NO_HOOKS=true pip --no-deps --no-build-isolation --force-reinstall "$source"
}

make_user() {
  if [ -z "$root" ] && ! id "$user" >/dev/null 2>&1; then
    useradd --system --user-group --no-create-home --home-dir "$readings" --shell /usr/sbin/nologin "$user"
  fi
}

write_settings() {
  mkdir -p "$settings" "$readings"
  if [ -z "$token_file" ]; then
    printf 'The token for this edge: ' >&2
    IFS= read -r token || fail "no token was given"
  else
    token=$(cat "$token_file")
  fi
  (umask 027 && printf '%s\n' "$token" >"$settings/token")
  if [ -n "$ca" ]; then cp "$ca" "$settings/ca.pem"; fi
  # Last, because it says that the settings are whole.
  {
    echo "# Settings of the edge; docs/edge.md explains them. After a change: sudo systemctl restart sungrow-edge"
    echo "server_url = \"$server\""
    echo "device_token_file = \"$settings/token\""
    if [ -n "$ca" ]; then echo "ca_file = \"$settings/ca.pem\""; fi
    echo "spool_path = \"$readings/spool.sqlite\""
    echo "health_file = \"$health/health.json\" # in memory: written at every poll, it would wear an SD card"
    echo
    echo "[[devices]]"
    echo "device_id = \"$device\""
    echo "host = \"$inverter\""
    echo "port = $port"
    if [ -n "$timezone" ]; then echo "timezone = \"$timezone\""; fi
  } >"$settings/edge.toml.new"
  mv "$settings/edge.toml.new" "$settings/edge.toml"
}

set_rights() {
  on_system chown -R "root:$user" "$settings"
  on_system chown -R "$user:$user" "$readings"
  chmod 0750 "$settings" "$readings"
  chmod 0640 "$settings"/*
}

write_command() {
  cat >"$commands/$1" <<TEXT
#!/bin/sh
# Written by install-edge.sh: the settings of the service, and its locks, so that both are gentle to the inverter.
export SUNGROW_LOCK_DIR="\${SUNGROW_LOCK_DIR:-$locks}"
export SUNGROW_EDGE_CONFIG="\${SUNGROW_EDGE_CONFIG:-$settings/edge.toml}"
if [ "$1" = sungrow-edge ] && [ -z "$root" ] && [ "\$(id -u)" = 0 ]; then
  # What root wrote, the service could not use.
  exec runuser -u $user -- $programs/bin/$1 "\$@"
fi
exec $programs/bin/$1 "\$@"
TEXT
  chmod 0755 "$commands/$1"
}

install_service() {
  mkdir -p "$units" "$commands" "$(dirname "$temporary")" "$locks" "$health"
  chmod 1777 "$locks"
  cp "$source/deploy/systemd/sungrow-edge.service" "$units/sungrow-edge.service"
  cp "$source/deploy/systemd/sungrow-edge.tmpfiles.conf" "$temporary"
  write_command sungrow
  write_command sungrow-edge
}

start() {
  systemctl daemon-reload
  systemctl enable --quiet sungrow-edge.service
  systemctl restart sungrow-edge.service
}

install() {
  first=yes
  if [ -e "$settings/edge.toml" ]; then first=no; fi
  check_machine
  if [ "$first" = yes ]; then check_options; fi
  install_programs
  make_user
  if [ "$first" = yes ]; then write_settings; fi
  set_rights
  install_service
  if [ "$first" = yes ] && [ -z "$root" ]; then
    # What is wrong is shown here; the service starts all the same, since an inverter sleeps at night.
    "$commands/sungrow-edge" check || echo "Not everything is well yet; the edge keeps trying." >&2
  fi
  on_system start
  echo "The edge is installed. See how it does: sudo sungrow-edge status"
}

"$job"
