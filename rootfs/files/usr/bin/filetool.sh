#!/bin/busybox ash
# Save and bring back the files and folders that /opt/.filetool.lst names (relative to
# /, one a line) without those /opt/.xfiletool.lst excludes (patterns of tar -X).
. /etc/init.d/tc-functions
useBusybox

LIST=/opt/.filetool.lst
EXCLUDE=/opt/.xfiletool.lst
STATUS=/tmp/backup_status
MYDATA=mydata
[ -s /etc/sysconfig/mydata ] && read -r MYDATA < /etc/sysconfig/mydata

usage() {
	cat >&2 <<'TEXT'
Usage: filetool.sh -b | -r | -s | -d [-v] [-p] [DEVICE[/FOLDER]]
  -b  back up        -s  back up, keeping the last one as NAMEbk.tgz
  -r  restore        -d  list what a backup would hold, and its size
  -v  list the files -p  the same, then wait for Enter
TEXT
	exit 2
}

fail() {
	echo "${RED}$*${NORMAL}" >&2
	echo "$*" > $STATUS
	leave 1
}

leave() {
	if [ -n "$MOUNTPOINT" ] && [ "$MOUNTED" = no ]; then sudo umount "$MOUNTPOINT"; fi
	if [ -n "$PROMPT" ]; then
		printf 'Press Enter to continue.'
		read -r answer
	fi
	exit "$1"
}

# open_target [DEVICE/FOLDER]: mount it; FOLDER is where the backup lies.
open_target() {
	local target=$1 device
	if [ -z "$target" ]; then
		[ -s /etc/sysconfig/backup_device ] && read -r target < /etc/sysconfig/backup_device
	fi
	if [ -z "$target" ]; then
		target=$(readlink /etc/sysconfig/tcedir)
		case "$target" in
			/mnt/*) target=${target#/mnt/} ;;
			*) fail "There is no backup device: name one, or choose a disk with tce-setdrive." ;;
		esac
	fi
	target=${target#/dev/}
	device=${target%%/*}
	find_mountpoint "$device"
	[ -n "$MOUNTPOINT" ] || fail "Invalid device $device"
	if [ "$MOUNTED" = no ]; then
		sudo mount "$MOUNTPOINT" || fail "Unable to mount device $device"
	fi
	FOLDER=$MOUNTPOINT
	TARGET=${D2#/dev/}
	case "$target" in
		*/?*)
			FOLDER=$MOUNTPOINT/${target#*/}
			TARGET=$TARGET/${target#*/}
			;;
	esac
}

# entries: print the list's lines that exist; say which do not.
entries() {
	local line
	while read -r line; do
		line=${line#/}
		case "$line" in '' | '#'*) continue ;; esac
		if sudo test -e "/$line" || sudo test -L "/$line"; then
			echo "$line"
		else
			echo "/$line does not exist" >> $STATUS
		fi
	done < $LIST
}

archive() { # TAR-OPTIONS: the archive goes to standard output
	entries > /tmp/backup_list
	sudo tar "$@" -C / -X $EXCLUDE --verbatim-files-from -T /tmp/backup_list
}

backup() {
	local file=$FOLDER/$MYDATA.tgz part=$FOLDER/.$MYDATA.tgz.part
	sudo mkdir -p "$FOLDER"
	rm -f $STATUS /tmp/backup_done
	echo "${BLUE}Backing up files to ${YELLOW}$file${NORMAL}"
	archive -czf "$part" $VERBOSE 2>/tmp/backup_errors
	# tar's status 1: a file changed while it was read; the archive is whole.
	if [ $? -gt 1 ]; then
		sudo rm -f "$part"
		fail "$(cat /tmp/backup_errors)"
	fi
	grep -v 'socket ignored' /tmp/backup_errors >> $STATUS
	if [ -n "$SAFE" ] && [ -s "$file" ]; then
		sudo mv -f "$file" "$FOLDER/${MYDATA}bk.tgz"
	fi
	sync
	sudo mv -f "$part" "$file" || fail "Unable to write $file"
	sync
	echo "$TARGET" > /etc/sysconfig/backup_device
	touch /tmp/backup_done
	if [ -s $STATUS ]; then
		echo "${RED}The backup is written, but:${NORMAL}" >&2
		cat $STATUS >&2
		leave 1
	fi
	echo "${GREEN}Done.${NORMAL}"
	leave 0
}

restore() {
	local file=$FOLDER/$MYDATA.tgz
	# tce-setdrive's and tce-setup's folders may hold no backup yet.
	[ -s "$file" ] || fail "There is no backup $file"
	echo "${BLUE}Restoring files from ${YELLOW}$file${NORMAL}"
	sudo tar -C / -xzf "$file" $VERBOSE || fail "$file could not be restored in full"
	echo "$TARGET" > /etc/sysconfig/backup_device
	echo "${GREEN}Done.${NORMAL}"
	leave 0
}

dry_run() {
	archive -cvf /tmp/backup_dryrun.tar -z || leave 1
	echo "Compressed: $(wc -c < /tmp/backup_dryrun.tar) bytes"
	sudo rm -f /tmp/backup_dryrun.tar
	[ -s $STATUS ] && cat $STATUS
	leave 0
}

ACTION= SAFE= PROMPT= VERBOSE= MOUNTPOINT= MOUNTED=
checkbootparam safebackup && SAFE=1
while getopts bprsdv option; do
	case "$option" in
		b | r | d) [ -z "$ACTION" ] || usage; ACTION=$option ;;
		s) SAFE=1; ACTION=${ACTION:-b} ;;
		p) PROMPT=1 VERBOSE=-v ;;
		v) VERBOSE=-v ;;
		*) usage ;;
	esac
done
shift $((OPTIND - 1))
case "$ACTION" in
	b) open_target "$1"; backup ;;
	r) open_target "$1"; restore ;;
	d) rm -f $STATUS; dry_run ;;
	*) usage ;;
esac
