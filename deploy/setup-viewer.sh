#!/bin/sh
# Puts in place what `make test-viewer` looks with: browser, npm and DICOMweb (as root, else the command is printed), and
# the pinned viewer in the folder given. What is missing afterwards, the tests name.
set -eu
folder=$1
here=$(dirname "$0")
lock=$here/../tests/viewer/package-lock.json
sh "$here/setup-system.sh" viewer
cmp -s "$lock" "$folder/.fetched" && exit 0
command -v npm >/dev/null 2>&1 || { echo "Without npm the viewer cannot be fetched."; exit 0; }
mkdir -p "$folder"
cp "$here/../tests/viewer/package.json" "$lock" "$folder"
echo "Fetching the viewer (50 MB; once)"
if (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error); then
    cp "$lock" "$folder/.fetched"
else
    echo "The viewer could not be fetched; going on without it."
fi
