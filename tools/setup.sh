#!/bin/sh
# Installs what this machine needs (Debian 12 or 13) and the pinned tools into .venv. Costs nothing when all is there.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"
stamp=.venv/brume.stamp

fail() {
    echo "setup: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then
        # apt takes proxies from the environment, which sudo would drop
        sudo --preserve-env=http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY "$@"
    else fail "this needs root, and there is no sudo: $*"; fi
}

# What must be there, and the package that brings it
missing=""
while read -r wanted package; do
    case $wanted in
    /*) [ -e "$wanted" ] || missing="$missing $package" ;;
    *) command -v "$wanted" >/dev/null || missing="$missing $package" ;;
    esac
done <<'WANTED'
python3 python3
podman podman
crun crun
/usr/lib/podman/netavark netavark
iptables iptables
nft nftables
ip iproute2
nsenter util-linux
mmdebstrap mmdebstrap
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
/etc/ssl/certs/ca-certificates.crt ca-certificates
ssh openssh-client
ping iputils-ping
git git
mcopy mtools
syslinux syslinux
/usr/lib/syslinux/modules/bios/ldlinux.c32 syslinux-common
qemu-img qemu-utils
WANTED

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

newest_python() {
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null && usable "$name"; then
            echo "$name"
            return
        fi
    done
}

[ -n "$(newest_python)" ] || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    echo "setup: installing$missing"
    command -v apt-get >/dev/null || fail "no apt-get here; install by hand:$missing"
    install="env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $missing"
    # package lists may be missing or older than the archive: then they are read, and the installation tried again
    # shellcheck disable=SC2086
    as_root $install >/dev/null 2>&1 || { as_root apt-get --quiet=2 update && as_root $install >/dev/null; }
fi

# The archive of this machine's lists serves the guest image; a machine that never read them has none
ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || as_root apt-get --quiet=2 update

wanted=$(sha256sum requirements.lock | cut -c1-64)
if [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

python=$(newest_python)
[ -n "$python" ] || fail "no Python 3.11 or later with the module venv on PATH"
if ! { [ -x .venv/bin/python ] && usable .venv/bin/python; }; then
    rm -rf .venv
    "$python" -m venv --without-pip .venv
fi
echo "setup: tools into .venv ($(.venv/bin/python --version))"
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip --default-pip >/dev/null

# uv does not read pip's configuration; who has one expects it to be used
variables=$(.venv/bin/python -m pip config list | .venv/bin/python -c '
import ast, os, shlex, sys

names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS",
         "no-index": "UV_NO_INDEX", "trusted-host": "UV_INSECURE_HOST"}
found = {}
lines = [line.strip().partition("=") for line in sys.stdin]
for section in ("global.", "install.", ":env:."):
    for key, _, value in lines:
        name = names.get(key.removeprefix(section)) if key.startswith(section) else None
        if name:
            separator = "," if name == "UV_FIND_LINKS" else " "
            found[name] = separator.join(str(ast.literal_eval(value)).split())
if "UV_INDEX" in found:
    # pip takes the best match of all indexes, uv what the first one has
    found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
for name, value in found.items():
    if name not in os.environ:
        print(f"export {name}={shlex.quote(value)}")
')
eval "$variables"

pinned=$(sed -n '/^uv==/,/[^\\]$/p' requirements.lock)
[ -n "$pinned" ] || fail "requirements.lock does not name uv"
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$(echo "$pinned" | sed -n 's/^uv==\([^ ]*\).*/\1/p')" ]; then
    echo "$pinned" >.venv/uv.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
fi
.venv/bin/uv pip sync --quiet --system-certs --require-hashes --python .venv/bin/python requirements.lock
echo "$wanted" >$stamp
