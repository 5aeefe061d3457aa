# What the init scripts of containerd, and of what runs on it, have in common.  Sourced by them.
#
# They set NAME (what they are called), DAEMON (the process's name), PIDFILE, LOG, SECONDS_TO_START
# and SECONDS_TO_STOP, and define answers, which tells whether the daemon does its work.
# Exit status: 0 done (status: it runs), 1 it failed (status: it does not run), 2 wrong usage.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
CGROUPS=/sys/fs/cgroup
USAGE="start|stop|restart|status"

say() { echo "$NAME: $*"; }
complain() { say "$@" >&2; }

running() {
	[ -s "$PIDFILE" ] && read -r PID < "$PIDFILE" || return 1
	# A number can have been given to another process since.
	[ "$(cat "/proc/$PID/comm" 2>/dev/null)" = "$DAEMON" ]
}

. /usr/local/share/containerd/checks.sh

mounted() { grep -q " $1 " /proc/mounts; }

# unified: tell whether the kernel's cgroup v2 is enough for runc.  There, access to
# devices is a BPF program's to decide (CONFIG_CGROUP_BPF); a kernel without must use v1.
unified() {
	grep -qw cgroup2 /proc/filesystems || return 1
	if [ -e /proc/config.gz ]; then
		zcat /proc/config.gz | grep -qx CONFIG_CGROUP_BPF=y
	elif [ -e /proc/kallsyms ]; then
		grep -qw cgroup_bpf_prog_attach /proc/kallsyms
	fi
}

mount_cgroups() {
	local name hierarchy groups enabled
	mounted "$CGROUPS" && return 0
	if [ ! -d "$CGROUPS" ]; then
		complain "this kernel has no control groups (CONFIG_CGROUPS)"
		return 1
	fi
	if unified; then
		mount -t cgroup2 cgroup2 "$CGROUPS"
		return
	fi
	mount -t tmpfs -o mode=0755 cgroup "$CGROUPS" || return 1
	# One hierarchy a controller, as runc looks for them.
	while read -r name hierarchy groups enabled; do
		[ "$enabled" = 1 ] || continue
		mkdir -p "$CGROUPS/$name"
		mount -t cgroup -o "$name" cgroup "$CGROUPS/$name" || rmdir "$CGROUPS/$name"
	done < /proc/cgroups
}

# check_root: complain where runc cannot pivot; who can do without that goes on.
check_root() {
	# The last line for / is what covers the others.
	[ "$(awk '$2 == "/" { type = $3 } END { print type }' /proc/mounts)" = rootfs ] || return 0
	complain "/ is the initramfs: runc will fail with \"pivot_root: invalid argument\";"
	complain "boot with the bootcode noembed (or run containers by \"ctr run --no-pivot\")"
	return 1
}

# What to tell of a daemon that ended, and of one that does not answer; a script may know more.
ended() {
	complain "it ended at once; the end of $LOG:"
	tail -n 5 "$LOG" >&2
}
silent() { complain "no answer within $SECONDS_TO_START seconds, see $LOG"; }

# goes_on: tell whether a daemon that does not answer yet has shown a sign of life since the last time.
goes_on() { false; }
seconds() { cut -d . -f 1 /proc/uptime; }

# launch COMMAND...: start a daemon in $DIRECTORY (/) and wait until it answers.
launch() {
	local since tries=0
	mkdir -p "${PIDFILE%/*}" "${LOG%/*}" || return 1
	ulimit -n 65536 2>/dev/null
	(cd "${DIRECTORY:-/}" && exec setsid "$@") >> "$LOG" 2>&1 < /dev/null &
	echo $! > "$PIDFILE"
	since=$(seconds)
	until answers; do
		# It becomes the daemon an instant after the fork.
		if [ "$tries" -gt 0 ] && ! running; then
			ended
			rm -f "$PIDFILE"
			return 1
		fi
		! goes_on || since=$(seconds)
		if [ $(($(seconds) - since)) -ge "$SECONDS_TO_START" ]; then
			silent
			return 1
		fi
		sleep 1
		tries=$((tries + 1))
	done
	say "started (process $(cat "$PIDFILE"))"
}

stop_one() {
	local left=$SECONDS_TO_STOP
	if ! running; then
		say "does not run"
		return 0
	fi
	kill "$PID"
	while running; do
		if [ "$left" = 0 ]; then
			complain "process $PID did not end within $SECONDS_TO_STOP seconds"
			return 1
		fi
		sleep 1
		left=$((left - 1))
	done
	rm -f "$PIDFILE"
	say "stopped"
}

# Sockets are root's; others are told what the process table says.
status_of_one() {
	if running && { [ "$(id -u)" != 0 ] || answers; }; then
		say "runs (process $PID)"
		return 0
	fi
	say "does not run"
	return 1
}

stop() { stop_one; }
status() { status_of_one; }

# serve WORD [MORE...]: do what the command line asks for.
serve() {
	case "$1" in
		start | stop | restart)
			if [ "$(id -u)" != 0 ]; then
				complain "needs root: sudo $0 $*"
				exit 1
			fi
			;;
		status) ;;
		*) echo "usage: $0 $USAGE" >&2; exit 2 ;;
	esac
	case "$1" in
		restart) shift; stop && start "$@" ;;
		*) "$@" ;;
	esac
}
