#!/bin/sh
# Makes the folder deploy/secrets: passwords drawn at random, and libpq's service files that have them.
#
#   deploy/secrets.sh [HOST]       HOST of PostgreSQL: "database", as in compose.yaml, unless it is named
#
# With PGSERVICEFILE=pg_service.conf the address postgresql:///horen?service=horen is that of the store for the service;
# with pg_service_read.conf the same address is for those who only follow it.
#
# The folder is for its owner alone. The files in it may be read by all, since a container that is given one has users
# of its own, and sees the file but not the folder.
set -eu
host=${1:-database}
folder=$(dirname "$0")/secrets
if [ -e "$folder" ]; then
    echo "$folder is there already: its passwords are kept." >&2
    exit 1
fi

made() { # ROLE, FILE OF ITS PASSWORD, SERVICE FILE
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf %s "$password" > "$folder/$2"
    printf '[horen]\nhost=%s\nport=5432\ndbname=horen\nuser=%s\npassword=%s\n' "$host" "$1" "$password" > "$folder/$3"
}

umask 022
mkdir -m 700 "$folder"
made horen database_password pg_service.conf
made horen_read read_password pg_service_read.conf
echo "Made $folder: keep a copy of it where your backups are not."
