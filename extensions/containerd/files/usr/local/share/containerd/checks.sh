# What containers ask of the system that runs.  service.sh reads this file.
#
# require NEED...: for each that is missing print one line, with the remedy, and fail.  A NEED is
# overlayfs, memory, bridge, netfilter, seccomp, or a folder that must be able to hold layers.
# WITHOUT (words) names those that somebody can do without.
OWN_SETTINGS=/usr/local/etc/containerd/settings
FILESYSTEMS=/proc/filesystems
CONTROLLERS=/proc/cgroups
SECCOMP_ACTIONS=/proc/sys/kernel/seccomp/actions_avail
DRIVERS=/sys/module
SYMBOLS=/proc/kallsyms
KERNEL_CONFIG=/proc/config.gz
MOUNTS=/proc/self/mountinfo
[ ! -f "$OWN_SETTINGS" ] || . "$OWN_SETTINGS"

require() {
	local need failed=0
	for need; do
		case " $WITHOUT " in *" $need "*) continue ;; esac
		case "$need" in
			/*) holds_layers "$need" ;;
			*) "has_$need" ;;
		esac || failed=1
	done
	return $failed
}

# lacks WHAT SYMBOL: this kernel lacks it, or only its module has not been loaded.
lacks() {
	if [ -e "$KERNEL_CONFIG" ] && zcat "$KERNEL_CONFIG" | grep -qx "CONFIG_$2=m"; then
		complain "$1 is a module that cannot be loaded: load the extension original-modules-$(uname -r)"
	else
		complain "this kernel has no $1 (CONFIG_$2): build it with the fragment containers"
	fi
	return 1
}

has_overlayfs() {
	modprobe -a overlay 2>/dev/null
	grep -qw overlay "$FILESYSTEMS" || lacks overlayfs OVERLAY_FS
}

# Of cgroup v2, the hierarchy itself tells what there is; it must be mounted.
has_memory() {
	if [ -e "$CGROUPS/cgroup.controllers" ]; then
		grep -qw memory "$CGROUPS/cgroup.controllers" && return 0
	else
		grep -q '^memory[[:space:]].*[[:space:]]1$' "$CONTROLLERS" && return 0
	fi
	# The kernel lists a controller that a bootcode has turned off.
	if grep -q '^memory[[:space:]].*[[:space:]]0$' "$CONTROLLERS"; then
		complain "the memory cgroup is turned off: boot without the bootcode cgroup_disable=memory"
		return 1
	fi
	lacks "memory cgroup" MEMCG
}

has_bridge() {
	modprobe -a bridge veth 2>/dev/null
	has_driver bridge br_add_bridge || lacks "network bridge" BRIDGE || return 1
	has_driver veth veth_newlink || lacks "virtual ethernet" VETH
}

# has_driver NAME FUNCTION: what is built in and has neither version nor parameters is not in /sys/module.
has_driver() { [ -d "$DRIVERS/$1" ] || [ ! -e "$SYMBOLS" ] || grep -qw "$2" "$SYMBOLS"; }

# What CNI's plugin bridge writes, tried on a chain that no packet passes.
has_netfilter() {
	local chain=CONTAINERD-CHECK works
	modprobe -a iptable_nat xt_MASQUERADE xt_comment 2>/dev/null
	if ! command -v iptables > /dev/null; then
		complain "there is no iptables: load the extension iptables"
		return 1
	fi
	iptables -w 5 -t nat -N "$chain" 2>/dev/null
	iptables -w 5 -t nat -A "$chain" -m comment --comment check -j MASQUERADE 2>/dev/null
	works=$?
	iptables -w 5 -t nat -F "$chain" 2>/dev/null
	iptables -w 5 -t nat -X "$chain" 2>/dev/null
	[ "$works" = 0 ] || lacks "netfilter with NAT" NETFILTER_XT_TARGET_MASQUERADE
}

has_seccomp() { [ -e "$SECCOMP_ACTIONS" ] || lacks "seccomp" SECCOMP_FILTER; }

# holds_layers FOLDER: an upper layer needs trusted.* attributes, as for a folder made anew.
holds_layers() {
	local try="$1/.check.$$" said works
	grep -qw overlay "$FILESYSTEMS" || return 0 # has_overlayfs tells
	if ! said=$(mkdir -p "$try/lower/a" "$try/upper" "$try/work" "$try/merged" 2>&1); then
		rm -rf "$try" 2>/dev/null
		complain "$1 cannot be written (${said##*: }): mount a disk there that has room"
		return 1
	fi
	(
		cd "$try" &&
			mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged &&
			rmdir merged/a && mkdir merged/a
	) 2>/dev/null
	works=$?
	umount "$try/merged" 2>/dev/null
	rm -rf "$try"
	[ "$works" = 0 ] && return 0
	said=$(file_system "$1")
	works="mount an ext4 disk there"
	case "$said" in rootfs | ramfs) works="$works, or boot with the bootcode noembed" ;; esac
	complain "$1 lies on $said, where overlayfs cannot keep layers: $works"
	return 1
}

# file_system FOLDER: print the type of the one that it lies on: the last mounted of the nearest above.
file_system() {
	awk -v folder="$(readlink -f "$1")" '
		{ place = $5 == "/" ? "/" : $5 "/" }
		index(folder "/", place) == 1 && length(place) >= length(best) {
			best = place
			for (i = 7; $i != "-"; i++) ;
			type = $(i + 1)
		}
		END { print type }' "$MOUNTS"
}
