#!/bin/sh
# Installs mariadb-server for the tests where that takes no question: on Debian and Ubuntu, as root, if no mariadbd is
# there. Its service is neither started nor enabled: the tests start servers of their own. Where it cannot be
# installed the tests say so at their end (tests/conftest.py), and this script succeeds all the same.
set -eu

POLICY=/usr/sbin/policy-rc.d # what packages ask before they start a service

is_there() {
    [ -n "${OPAL_TEST_MARIADB_BIN:-}" ] || (PATH="$PATH:/usr/sbin:/usr/libexec" && command -v mariadbd >/dev/null)
}

say() {
    echo "install_mariadb: $1" >&2
}

finish() {
    if [ -e "$folder/policy-rc.d" ]; then
        mv "$folder/policy-rc.d" "$POLICY"
    elif [ -e "$folder/denied" ]; then
        rm -f "$POLICY"
    fi
    rm -rf "$folder"
    # Else it would start with the machine.
    systemctl --quiet disable mariadb >/dev/null 2>&1 || true
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

install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update &&
        # Never at the price of another server, such as MySQL's.
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends --no-remove mariadb-server
}

if is_there || [ "$(id -u)" -ne 0 ] || [ ! -e /etc/debian_version ]; then
    exit 0
fi

exec 9</etc/debian_version
flock 9 # another checkout may be at it
if is_there; then
    exit 0
fi

folder=$(mktemp -d)
trap finish EXIT
trap 'exit 130' HUP INT TERM
say "installing mariadb-server; this takes up to a minute, once"
deny_services
if ! install >"$folder/log" 2>&1 </dev/null; then
    say "it cannot be installed: apt-get install mariadb-server ended with"
    tail -n 15 "$folder/log" | sed 's/^/    /' >&2
fi
