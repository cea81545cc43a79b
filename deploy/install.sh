#!/bin/sh
# Installs or upgrades dicomnode as a system service; run it again to upgrade. Never touches configuration, keys or state
# that are there. `deploy/docs/install.md` tells the whole way.
#   deploy/install.sh                       from a checkout, packages from the package index
#   deploy/install.sh --wheels FOLDER       without a network (deploy/bundle.sh makes the folder)
#   deploy/install.sh --python PYTHON       with another Python (3.11 or newer)
#   deploy/install.sh --uninstall           removes program and units; configuration, keys and state stay
set -eu
umask 022

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=/opt/dicomnode
settings=/etc/dicomnode
state=/var/lib/dicomnode
units=/etc/systemd/system
command=/usr/local/sbin/dicomnode
python=python3
wheels=""
uninstall=""
[ ! -d "$here/wheels" ] || wheels=$here/wheels

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --wheels) [ $# -gt 1 ] || fail "--wheels needs a folder"; wheels=$2; shift 2 ;;
        --python) [ $# -gt 1 ] || fail "--python needs a program"; python=$2; shift 2 ;;
        --uninstall) uninstall=1; shift ;;
        *) fail "unknown option $1; see the head of this file" ;;
    esac
done
[ "$(id -u)" -eq 0 ] || fail "run it as root"
command -v systemctl >/dev/null || fail "systemd is not there; \`dicomnode serve\` runs without it"
booted() { [ -d /run/systemd/system ]; }

if [ -n "$uninstall" ]; then
    if booted; then
        systemctl disable --now dicomnode.service || true
    fi
    rm -f "$units/dicomnode.service" "$units/dicomnode@.service" "$command" \
        /etc/sysusers.d/dicomnode.conf /etc/tmpfiles.d/dicomnode.conf
    rm -rf "$prefix"
    if booted; then
        systemctl daemon-reload
    fi
    say "Removed the program and its units. Still there, with patients' data and the keys to it:"
    say "  $state $settings (and the user dicomnode)"
    exit 0
fi

# -- keys: made once, taken over from a node that made its own, never replaced; what cannot go on fails here --
present=0
source=""
for name in identity pseudonym derivation; do
    [ ! -e "$settings/keys/$name.key" ] || present=$((present + 1))
done
if [ "$present" -eq 0 ] && [ -d "$state/keys" ]; then
    source=$state/keys
elif [ "$present" -eq 0 ] && [ -e "$state/ledger.sqlite" ]; then
    fail "$state holds sealed data, but its keys are gone: restore $settings/keys from its backup"
elif [ "$present" -ne 0 ] && [ "$present" -ne 3 ]; then
    fail "$settings/keys holds $present of 3 keys: restore the others from their backup"
fi

# -- the program: every release in a folder of its own, the current one by a link that is swapped at once --
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed (--python)"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "the module venv is missing (Debian: apt-get install python3-venv)"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/dicomnode/__init__.py" 2>/dev/null || cat "$here/VERSION")
[ -n "$version" ] || version=$(cat "$here/VERSION")
release=$prefix/releases/$version-$(date -u +%Y%m%dT%H%M%SZ)
say "Installing dicomnode $version into $release"
mkdir -p "$prefix/releases"
trap 'rm -rf "$release"' EXIT
"$python" -m venv "$release"
pip() { "$release/bin/python" -m pip --disable-pip-version-check --no-input -q "$@"; }
if [ -n "$wheels" ]; then
    pip install --no-index --find-links "$wheels" --require-hashes --no-deps -r "$here/requirements.lock"
    set -- "$wheels"/dicomnode-"$version"-*.whl
    [ -f "$1" ] || fail "no wheel of dicomnode $version in $wheels"
    pip install --no-index --no-deps "$1"
else
    pip install --require-hashes --no-deps -r "$here/requirements.lock"
    pip install --no-deps "$here"
fi
cp -R "$here/deploy/docs" "$release/docs"
"$release/bin/dicomnode" version >/dev/null || fail "the program does not start"

# -- user, folders, units --
install -D -m 0644 "$here/systemd/dicomnode.sysusers.conf" /etc/sysusers.d/dicomnode.conf
install -D -m 0644 "$here/systemd/dicomnode.tmpfiles.conf" /etc/tmpfiles.d/dicomnode.conf
install -m 0644 "$here/systemd/dicomnode.service" "$here/systemd/dicomnode@.service" "$units/"
install -D -m 0755 "$here/deploy/dicomnode-as-service.sh" "$command"
systemd-sysusers dicomnode.conf
systemd-tmpfiles --create dicomnode.conf

# -- keys --
made_keys=""
if [ "$present" -eq 0 ]; then
    for name in identity pseudonym derivation; do
        new=$settings/keys/.$name.key.new
        rm -f "$new"
        if [ -n "$source" ]; then
            install -m 0400 "$source/$name.key" "$new"
        else
            (umask 0377 && "$python" -c 'import secrets; print(secrets.token_hex(32))' >"$new")
        fi
    done
    for name in identity pseudonym derivation; do
        mv "$settings/keys/.$name.key.new" "$settings/keys/$name.key"
    done
    sync -f "$settings/keys"
    made_keys=1
fi

# -- configuration: written once --
made_configuration=""
if [ ! -e "$settings/dicomnode.toml" ]; then
    "$release/bin/dicomnode" init "$settings/dicomnode.toml" >/dev/null
    made_configuration=1
fi
systemd-tmpfiles --create dicomnode.conf

# -- the swap: a running node drains, then the new one starts --
was_active=""
if booted; then
    systemctl daemon-reload
    if systemctl is-active --quiet dicomnode.service; then
        was_active=1
        systemctl stop dicomnode.service
    fi
fi
previous=$(readlink "$prefix/current" 2>/dev/null || true)
trap - EXIT
ln -sfn "releases/${release##*/}" "$prefix/.current.new"
mv -T "$prefix/.current.new" "$prefix/current"
ln -sfn current/bin "$prefix/bin"
for old in "$prefix"/releases/*; do
    case ${old##*/} in
        "${release##*/}" | "${previous##*/}") ;;
        *) rm -rf "$old" ;;
    esac
done
if [ -n "$was_active" ]; then
    systemctl start dicomnode.service
    say "The node runs version $version now. Back to the one before:"
    say "  systemctl stop dicomnode && ln -sfn $previous $prefix/current && systemctl start dicomnode"
    exit 0
fi

say "Installed. What is left to do:"
[ -z "$source" ] || say "  0. the keys of $source were taken over; once the node runs, remove that folder"
[ -z "$made_keys" ] || say "  1. back up $settings/keys (three files): without them nothing that is sealed can be opened"
[ -z "$made_configuration" ] || say "  2. edit $settings/dicomnode.toml: listen, destinations, TLS"
say "  3. dicomnode check"
say "  4. systemctl enable --now dicomnode"
