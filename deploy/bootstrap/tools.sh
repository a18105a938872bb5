#!/bin/sh
# Tools that only apt has. As root they are installed; otherwise the tests that need them skip and say so.
set -eu
missing=""
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed (needs root and apt):$missing; their tests will skip" >&2
    exit 0
fi
echo "installing with apt:$missing"
# Neither package may start a server here: the tests start their own.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    made=yes
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
    echo "apt could not install:$missing; their tests will skip" >&2
}
[ -z "$made" ] || rm -f $policy
