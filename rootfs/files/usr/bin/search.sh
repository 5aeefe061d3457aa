#!/bin/busybox ash
# search.sh PATTERN...: the extensions of the mirror whose names fit all patterns (awk's
# regular expressions; capital letters do not count).  -t: names and tags are looked at.
# Exit status: 0 some were found, 1 none.
. /etc/init.d/tc-functions
useBusybox
TAGS=
if [ "$1" = -t ]; then
	TAGS=1
	shift
fi
[ -n "$1" ] || { echo "Usage: search.sh [-t] PATTERN..." >&2; exit 2; }
mirrorDatabase tags.db || exit 1
PATTERNS=$* awk -v tags="$TAGS" '
	BEGIN { count = split(tolower(ENVIRON["PATTERNS"]), pattern, " ") }
	{
		name = $1
		sub(/\.tcz$/, "", $1)
		text = tolower(tags ? $0 : $1)
		for (i = 1; i <= count; i++) if (text !~ pattern[i]) next
		print name
		found = 1
	}
	END { exit !found }' /tmp/tags.db
