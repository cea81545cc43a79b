#!/bin/sh
# The command line of the installed node. For root, what works on the node's state runs as the service does: as its user,
# with its configuration and its keys (so that no file in the state ever belongs to root).
set -eu
program=/opt/dicomnode/bin/dicomnode
keys=/etc/dicomnode/keys
if [ "$(id -u)" -ne 0 ]; then
    exec "$program" "$@"
fi
words=0
case ${1-} in
    check | studies | status | infer | deidentify | explain | replay | verify) words=1 ;;
    retry | cancel | reprocess | release | retract | export) words=1 ;;
    keys | models | doctor) case ${2-} in "" | -* | new-token) ;; *) words=2 ;; esac ;;
esac
if [ "$words" -eq 0 ]; then
    exec "$program" "$@"
fi
subcommand=$1
shift
group=
if [ "$words" -eq 2 ]; then
    group=$subcommand subcommand=$1
    shift
fi
# Of two configurations the last one holds: `replay --config NEW` is the one that is tried.
set -- "$program" ${group:+"$group"} "$subcommand" --config /etc/dicomnode/dicomnode.toml "$@"
for name in identity pseudonym; do # new keys, for `keys rotate`
    if [ -e "$keys/$name.next.key" ]; then
        set -- -p "LoadCredential=dicomnode.$name.next:$keys/$name.next.key" "$@"
    fi
done
exec systemd-run --quiet --pipe --wait --collect --same-dir --service-type=exec \
    -p User=dicomnode -p Group=dicomnode -p UMask=0077 \
    -p Environment=ORT_DISABLE_TELEMETRY=1 \
    -p StateDirectory=dicomnode -p StateDirectoryMode=0700 \
    -p "LoadCredential=dicomnode.identity:$keys/identity.key" \
    -p "LoadCredential=dicomnode.pseudonym:$keys/pseudonym.key" \
    -p "LoadCredential=dicomnode.derivation:$keys/derivation.key" \
    "$@"
