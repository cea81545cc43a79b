#!/bin/sh
# A certificate authority for development and trials, and from it one certificate each for the node and for a PACS.
#   certs/make-development-ca.sh [FOLDER [NODE [PACS]]]     NODE, PACS: host names or addresses, comma-separated
# Makes FOLDER (default certs/development, which git ignores) and in it, for "node" and "pacs":
#   authority.pem                    whom both sides trust
#   node.pem, pacs.pem               their certificates     node.key, pacs.key   their private keys (0400)
# The authority's own key is thrown away at the end: nobody can issue more in its name.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/development}
node=${2:-localhost,127.0.0.1,::1}
pacs=${3:-localhost,127.0.0.1,::1}
days=365
[ ! -e "$folder" ] || { echo "make-development-ca.sh: $folder is there already; it was not touched" >&2; exit 1; }

names() { # comma-separated names and addresses as a subjectAltName
    printf '%s\n' "$1" | tr ',' '\n' | while read -r name; do
        case $name in
            *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) printf 'IP:%s\n' "$name" ;;
            *) printf 'DNS:%s\n' "$name" ;;
        esac
    done | paste -sd,
}
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

mkdir -p "$(dirname "$folder")"
new=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$new"' EXIT
key "$new/authority.key"
openssl req -x509 -new -sha256 -key "$new/authority.key" -days "$days" -out "$new/authority.pem" \
    -subj "/O=dicomnode development/CN=Development authority, not for patients" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
issue() { # who, names
    key "$new/$1.key"
    openssl req -new -sha256 -key "$new/$1.key" -subj "/O=dicomnode development/CN=$1" -out "$new/$1.csr"
    {
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "subjectAltName=$(names "$2")"
    } >"$new/$1.extensions"
    openssl x509 -req -sha256 -in "$new/$1.csr" -CA "$new/authority.pem" -CAkey "$new/authority.key" \
        -set_serial "0x$(openssl rand -hex 16 | sed 's/^./7/')" -days "$days" -extfile "$new/$1.extensions" \
        -out "$new/$1.pem" 2>/dev/null
    rm "$new/$1.csr" "$new/$1.extensions"
}
issue node "$node"
issue pacs "$pacs"
rm "$new/authority.key"
chmod 0400 "$new"/*.key
chmod 0444 "$new"/*.pem
chmod 0755 "$new"
mv -T "$new" "$folder"
trap - EXIT
printf 'Wrote %s: authority.pem, node.pem, node.key, pacs.pem, pacs.key (valid for %s days)\n' "$folder" "$days"
