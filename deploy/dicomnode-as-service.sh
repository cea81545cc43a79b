#!/bin/sh
# The command line of the installed node. For root, what works on the node's state runs as the service does: as its user,
# with its configuration and its keys (so that no file in the state ever belongs to root).
set -eu
program=/opt/dicomnode/bin/dicomnode
keys=/etc/dicomnode/keys
if [ "$(id -u)" -ne 0 ]; then
    exec "$program" "$@"
fi
case ${1-} in
    check | studies | infer | deidentify)
        subcommand=$1
        shift
        exec systemd-run --quiet --pipe --wait --collect --same-dir --service-type=exec \
            -p User=dicomnode -p Group=dicomnode -p UMask=0077 \
            -p Environment=ORT_DISABLE_TELEMETRY=1 \
            -p StateDirectory=dicomnode -p StateDirectoryMode=0700 \
            -p "LoadCredential=dicomnode.identity:$keys/identity.key" \
            -p "LoadCredential=dicomnode.pseudonym:$keys/pseudonym.key" \
            -p "LoadCredential=dicomnode.derivation:$keys/derivation.key" \
            "$program" "$subcommand" --config /etc/dicomnode/dicomnode.toml "$@"
        ;;
    *) exec "$program" "$@" ;;
esac
