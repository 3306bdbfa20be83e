#!/bin/sh
# Writes a backup of a store, looks whether it can be read, and deletes those that are too old.
#
#   deploy/backup.sh STORE FOLDER
#
# STORE is the path of a SQLite file, or what PostgreSQL's programs are told of a database: "service=horen", with
# PGSERVICEFILE naming the file that has its password. pg_dump has to be of the server's release or a newer one.
# KEEP_DAYS=30 says how old backups get; HOREN names the program where it is not in the path.
#
# Put back is a copy of a SQLite file under its name, with no -wal and -shm beside it; a dump with
#   pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname=service=horen FILE
# in a database that is empty. Services notice by themselves that a store is an earlier one.
set -eu
umask 077
if [ $# -ne 2 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
store=$1
folder=$2
at=$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p "$folder"
case $store in
    *=* | *://*)
        file=$folder/horen-$at.dump
        staged=$file.part
        trap 'rm -f "$staged"' EXIT
        pg_dump --format=custom --no-owner --no-privileges --file="$staged" "$store"
        pg_restore --list "$staged" > /dev/null
        ;;
    *)
        file=$folder/horen-$at.db
        staged=$file.part
        trap 'rm -f "$staged"' EXIT
        "${HOREN:-horen}" backup "$store" "$staged" > /dev/null
        ;;
esac
mv "$staged" "$file"
# Only what this has made is deleted, and only when there is a new one.
find "$folder" -maxdepth 1 -type f \( -name 'horen-*Z.dump' -o -name 'horen-*Z.db' \) -mtime "+${KEEP_DAYS:-30}" -delete
echo "$file"
