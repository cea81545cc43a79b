#!/bin/sh
# Makes a Debian 12 root folder with systemd, Python, DCMTK and Orthanc: the "hospital server" of tests/journey/test_systemd.py.
#   make_root.sh FOLDER      (root; needs debootstrap and a Debian mirror, $MIRROR or its default; nothing happens if the folder is there)
set -eu
root=$1
[ ! -e "$root" ] || exit 0
new=$root.new
rm -rf "$new"
export DEBIAN_FRONTEND=noninteractive
debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,openssl,iproute2,procps,util-linux \
    bookworm "$new" ${MIRROR:+"$MIRROR"}
printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
chmod 755 "$new/usr/sbin/policy-rc.d"
chroot "$new" apt-get install -y -qq --no-install-recommends dcmtk orthanc
chroot "$new" systemctl mask orthanc.service
rm "$new/usr/sbin/policy-rc.d"
mv "$new" "$root"
