#!/bin/sh
# Packs all that deploy/install.sh needs on a machine without a network into build/dicomnode-VERSION.tar.gz.
# Run it where the package index can be reached, with the Python version and processor of the target.
#   deploy/bundle.sh [PYTHON]
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/dicomnode/__init__.py")
name=dicomnode-$version
work=$here/build/bundle
rm -rf "${work:?}/$name"
mkdir -p "$work/$name/wheels"
pip() { "$python" -m pip --disable-pip-version-check --no-input -q "$@"; }
pip download --require-hashes --no-deps --only-binary :all: -r "$here/requirements.lock" -d "$work/$name/wheels"
pip wheel --no-deps -w "$work/$name/wheels" "$here"
cp -R "$here/requirements.lock" "$here/requirements-ocr.lock" "$here/LICENSE" "$here/systemd" "$here/deploy" "$work/$name/"
mkdir "$work/$name/certs"
cp "$here/certs/README.md" "$here/certs/make-development-ca.sh" "$work/$name/certs/"
printf '%s\n' "$version" >"$work/$name/VERSION"
(cd "$work/$name" && find . -type f ! -name SHA256SUMS -exec sha256sum {} + | sort -k 2 >SHA256SUMS)
tar -C "$work" --owner=0 --group=0 --sort=name -czf "$here/build/$name.tar.gz" "$name"
printf 'Wrote build/%s.tar.gz. On the target: tar -xzf it, sha256sum -c SHA256SUMS, deploy/install.sh\n' "$name"
