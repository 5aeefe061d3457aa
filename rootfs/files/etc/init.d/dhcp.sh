#!/bin/sh
# Ask for an address for every network card that has none.  udhcpc goes on trying in
# the background, so nothing waits for a slow card or a missing server.
for path in /sys/class/net/*; do
	[ -e "$path/device" ] || continue
	card=${path##*/}
	ifconfig "$card" | grep -q 'inet addr' && continue
	ifconfig "$card" up
	/sbin/udhcpc -b -i "$card" -x "hostname:$(hostname)" -s /usr/share/udhcpc/default.script \
		-p "/var/run/udhcpc.$card.pid" >/dev/null 2>&1 </dev/null &
done
