#!/bin/busybox ash
# tc-restore.sh TCEDIR: at boot, bring back the files that filetool.sh saved.
# The backup is looked for on the device of bootcode `restore=`, in the tce folder,
# then on every disk.  Where none is found, the tce folder becomes the place for the
# next one.
. /etc/init.d/tc-functions
useBusybox
checkroot

TCE=$1
MYDATA=mydata
[ -s /etc/sysconfig/mydata ] && read -r MYDATA < /etc/sysconfig/mydata

if device=$(getbootparam restore) && [ -n "$device" ]; then
	:
elif [ -s "$TCE/$MYDATA.tgz" ] && [ "${TCE#/mnt/}" != "$TCE" ]; then
	device=${TCE#/mnt/}
else
	device=$(tc_autoscan "$MYDATA.tgz" f)
fi
if [ -n "$device" ]; then
	exec /usr/bin/filetool.sh -r "$device"
fi
case "$TCE" in /mnt/*) echo "${TCE#/mnt/}" > /etc/sysconfig/backup_device ;; esac
exit 0
