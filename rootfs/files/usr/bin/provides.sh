#!/bin/busybox ash
# provides.sh [-f] TEXT: the extensions of the mirror that bring a path with TEXT in it, such
# as usr/local/bin/grep; TEXT$: that ends in TEXT.  -f: say the paths too.
# Exit status: 0 some were found, 1 none.
. /etc/init.d/tc-functions
useBusybox
PATHS=
if [ "$1" = -f ]; then
	PATHS=1
	shift
fi
[ -n "$1" ] || { echo "Usage: provides.sh [-f] TEXT" >&2; exit 2; }
mirrorDatabase provides.db || exit 1
# A path stands there without its leading slash.
TEXT=$* awk -v paths="$PATHS" '
	BEGIN {
		FS = "\n"
		RS = ""
		text = ENVIRON["TEXT"]
		if (text ~ /^\//) { text = substr(text, 2); whole = 1 }
		if (text ~ /\$$/) { text = substr(text, 1, length(text) - 1); last = 1 }
	}
	function fits(path) {
		if (whole && index(path, text) != 1) return 0
		if (last) return substr(path, length(path) - length(text) + 1) == text
		return index(path, text) > 0
	}
	{
		for (i = 2; i <= NF; i++) {
			if (!fits($i)) continue
			found = 1
			if (!paths) { print $1; next }
			printf "%-30s : %s\n", $1, $i
		}
	}
	END { exit !found }' /tmp/provides.db
