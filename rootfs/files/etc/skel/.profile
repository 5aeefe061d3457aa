# Read by the user's login shell, after /etc/profile.
[ -d "$HOME/.local/bin" ] || mkdir -p "$HOME/.local/bin"
PATH="$HOME/.local/bin:$PATH"
[ -d /etc/sysconfig/tcedir/ondemand ] && PATH="$PATH:/etc/sysconfig/tcedir/ondemand"
EDITOR=vi
PAGER=less
ENV="$HOME/.ashrc"
export PATH EDITOR PAGER ENV
if [ -d /run/user ]; then
	XDG_RUNTIME_DIR="/run/user/$(id -u)"
	[ -d "$XDG_RUNTIME_DIR" ] && export XDG_RUNTIME_DIR
fi

# A desktop extension brings startx and /etc/sysconfig/Xserver; `text` keeps it away.
if [ -f /etc/sysconfig/Xserver ] && [ ! -f /etc/sysconfig/text ] && [ ! -e /tmp/.X11-unix/X0 ]; then
	case "$(tty)" in
		/dev/tty[0-9]*) startx ;;
	esac
fi
