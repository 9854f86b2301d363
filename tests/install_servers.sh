#!/bin/sh
# Installs the servers that some tests need (mariadb-server, pgbouncer) where that takes no question: on Debian and
# Ubuntu, as root, if their programs are not there. Their services are neither started nor enabled: the tests start
# servers of their own. What cannot be installed the tests name at their end (tests/conftest.py), and this script
# succeeds all the same.
set -eu

POLICY=/usr/sbin/policy-rc.d # what packages ask before they start a service

# The packages that are missing; a folder that the tests were told to look into counts as a program.
missing() {
    PATH="$PATH:/usr/sbin:/usr/libexec"
    [ -n "${OPAL_TEST_MARIADB_BIN:-}" ] || command -v mariadbd >/dev/null || echo mariadb-server
    [ -n "${OPAL_TEST_PGBOUNCER_BIN:-}" ] || command -v pgbouncer >/dev/null || echo pgbouncer
}

say() {
    echo "install_servers: $1" >&2
}

finish() {
    if [ -e "$folder/policy-rc.d" ]; then
        mv "$folder/policy-rc.d" "$POLICY"
    elif [ -e "$folder/denied" ]; then
        rm -f "$POLICY"
    fi
    rm -rf "$folder"
    # Else they would start with the machine.
    for package in $wanted; do
        systemctl --quiet disable "${package%-server}" >/dev/null 2>&1 || true
    done
}

deny_services() {
    if [ -x "$POLICY" ]; then
        denied=0
        "$POLICY" mariadb start >/dev/null 2>&1 || denied=$?
        [ "$denied" -ne 101 ] || return 0
        cp -p "$POLICY" "$folder/policy-rc.d"
    fi
    touch "$folder/denied"
    # Should this script be killed, the file denies nothing any more.
    printf '#!/bin/sh\nkill -0 %s 2>/dev/null && exit 101\nexit 0\n' "$$" >"$POLICY"
    chmod 755 "$POLICY"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"
}

try() {
    if ! "$@" >"$folder/log" 2>&1 </dev/null; then
        say "it ended with an error: $*"
        tail -n 15 "$folder/log" | sed 's/^/    /' >&2
        return 1
    fi
}

if [ -z "$(missing)" ] || [ "$(id -u)" -ne 0 ] || [ ! -e /etc/debian_version ]; then
    exit 0
fi

exec 9</etc/debian_version
flock 9 # another checkout may be at it
wanted=$(missing)
if [ -z "$wanted" ]; then
    exit 0
fi

folder=$(mktemp -d)
trap finish EXIT
trap 'exit 130' HUP INT TERM
say "installing $(echo $wanted); this takes up to a minute, once"
deny_services
try apt_get update || exit 0
for package in $wanted; do
    # Never at the price of another server, such as MySQL's.
    try apt_get install -y --no-install-recommends --no-remove "$package" || true
done
