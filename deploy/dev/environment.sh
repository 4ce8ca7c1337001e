#!/bin/sh
# Makes .venv with the extras that are asked for: `deploy/dev/environment.sh all` or `… dev`.
#
# Needs a Python of at least 3.11. Where the system is Debian and we are root, what is missing is
# installed; elsewhere one line says what is missing.
set -eu
cd "$(dirname "$0")/../.."
extra=${1:?which extra: all or dev}

say() { printf 'backtrail: %s\n' "$*" >&2; }

debian_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    say "installing $*"
    # RUNLEVEL=1: a package that brings a daemon shall not start it here
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    apt-get update -q >/dev/null 2>&1
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1
}

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && fits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

python=$(find_python) || {
    debian_install python3 python3-venv || true
    python=$(find_python) || { say "Python 3.11 or newer is missing: install it, or name it with PYTHON=…"; exit 1; }
}

if ! [ -x .venv/bin/python ] || ! fits .venv/bin/python; then
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        debian_install python3-venv || true
        "$python" -m venv .venv || { say "Python's venv module is missing (Debian: python3-venv)"; exit 1; }
    fi
fi
say "installing the packages of the extra '$extra' into .venv (once)"
.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$extra]"

# Programs of others that some tests talk to; those tests skip with a line, or fail in CI, without them.
if [ "$extra" = dev ]; then
    missing=
    command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
    command -v mvn >/dev/null 2>&1 || missing="$missing maven"
    command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
    command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
    command -v nats-server >/dev/null 2>&1 || [ -x /usr/sbin/nats-server ] || missing="$missing nats-server"
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
    command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
    ls /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server >/dev/null 2>&1 || missing="$missing rabbitmq-server"
    command -v logger >/dev/null 2>&1 || missing="$missing bsdutils"
    command -v rsyslogd >/dev/null 2>&1 || [ -x /usr/sbin/rsyslogd ] || missing="$missing rsyslog"
    ls /usr/lib/*/rsyslog/omelasticsearch.so >/dev/null 2>&1 || missing="$missing rsyslog-elasticsearch"
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
    command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || debian_install $missing || say "not here, and their tests with them:$missing"
fi
