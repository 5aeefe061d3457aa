#!/bin/busybox ash
# depends-on.sh NAME: the extensions of the mirror that name it as something they need.
# Exit status: 0 some were found, 1 none.
. /etc/init.d/tc-functions
useBusybox
[ -n "$1" ] || { echo "Usage: depends-on.sh NAME" >&2; exit 2; }
mirrorDatabase dep.db || exit 1
NAME=${1%.tcz}.tcz awk '
	BEGIN { FS = "\n"; RS = ""; name = ENVIRON["NAME"] }
	{ for (i = 2; i <= NF; i++) if ($i == name) { print $1; found = 1; next } }
	END { exit !found }' /tmp/dep.db
