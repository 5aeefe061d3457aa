#!/bin/busybox ash
# Write the CD and DVD drives to /etc/sysconfig/cdroms ("/dev/sr0 /dev/sr1 ...") and
# link the first of each kind to /dev/cdrom and /dev/dvd.
INFO=/proc/sys/dev/cdrom/info
[ -r $INFO ] || exit 0
drives=
for name in $(sed -n 's/^drive name:[[:space:]]*//p' $INFO); do
	drives="$drives/dev/$name "
done
echo "$drives" > /etc/sysconfig/cdroms
[ -n "$drives" ] || exit 0
ln -sf "${drives%% *}" /dev/cdrom
set -- $(sed -n 's/^Can read DVD:[[:space:]]*//p' $INFO)
for device in $drives; do
	if [ "$1" = 1 ]; then
		ln -sf "$device" /dev/dvd
		break
	fi
	shift
done
