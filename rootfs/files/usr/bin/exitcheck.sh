#!/bin/sh
# exitcheck.sh [reboot | shutdown]: what a desktop's exit menu runs.
[ -x /opt/shutdown.sh ] && /opt/shutdown.sh
case "$1" in
	reboot) exec sudo /sbin/reboot ;;
	*) exec sudo /sbin/poweroff ;;
esac
