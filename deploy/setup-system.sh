#!/bin/sh
# Installs the programs that the demo and the tests work with. Without root it prints the command instead.
# `setup-system.sh viewer` adds those of `make test-viewer`, `contours` what reads RT Structure Sets back (76 MB; CI has it).
set -eu
packages=""
need() { # program or file, package
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || [ -f "$1" ] || packages="$packages $2"
}
need Orthanc orthanc
need /usr/share/orthanc/plugins/libOrthancDicomWeb.so orthanc-dicomweb
need storescu dcmtk
need dsrdump dcmtk
need pdfinfo poppler-utils
need dciodvfy dicom3tools
need softhsm2-util softhsm2
need pkcs11-tool opensc
if [ "${1:-}" = viewer ]; then
    need chromium chromium
    need npm npm
fi
if [ "${1:-}" = contours ]; then
    need plastimatch plastimatch
fi
if [ "${1:-}" = bench ]; then
    need gdcmanon libgdcm-tools
    need openssl openssl
fi
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
packages=${packages# }
[ -n "$packages" ] || exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    # A policy that starts nothing: the demo and the tests start their own Orthanc on a free port.
    policy=/usr/sbin/policy-rc.d
    made=""
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1; }
    log=$(mktemp)
    status=0
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1 || status=$?
    [ -z "$made" ] || rm -f "$policy"
    [ "$status" -eq 0 ] || { tail -n 20 "$log"; echo "The packages could not be installed; going on without them."; }
    rm -f "$log"
else
    echo "For the full demo and all tests, install as root:  apt-get install -y --no-install-recommends $packages"
fi
