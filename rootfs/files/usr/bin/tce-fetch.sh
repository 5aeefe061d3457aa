#!/bin/busybox ash
# tce-fetch.sh [-O] FILE: get a file of the mirror's extension folder into the current
# folder, or (-O) to standard output.
. /etc/init.d/tc-functions
useBusybox
target=
if [ "$1" = -O ]; then
	target=-
	shift
fi
[ -n "$1" ] || { echo "Usage: tce-fetch.sh [-O] FILE" >&2; exit 2; }
getMirror
name=$(echo "$1" | sed "s/-KERNEL\.tcz/-$(uname -r).tcz/")
exec busybox wget -q -O "${target:-$name}" "$MIRROR/$name"
