# SPDX-License-Identifier: MIT
"""A root for the start scripts of services, run by BusyBox's ash with BusyBox's own tools.

Every absolute path in the scripts is moved below a folder of the test; the daemons are
stand-ins that really listen.  What needs root (mount, modprobe) is only written down.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.util.checkout import CHECKOUT

BUSYBOX = "/bin/busybox"
MOVED = re.compile(r"(?<![\w$}.])/((usr/local|run|var|proc/sys|sys/fs)/|proc/mounts)")
CONTAINERD = '#!/bin/sh\n[ -e "$0.runs" ] || { echo "containerd: no" >&2; exit 1; }\n'
# BusyBox's shell takes its own tools before anything in PATH, but functions before those.
INSTEAD = """
id() { cat "$ROOT/user"; }
mount() { echo "mount $*" >> "$ROOT/asked"; }
modprobe() { echo "modprobe $*" >> "$ROOT/asked"; }
"""
# A store of images: a file with a line `NAMESPACE NAME DIGEST` for each, and one of containers with
# `NAMESPACE NAME IMAGE`.  An archive is a text: its
# image's name, or `error` and what is said of it.  The next import fails with the text of `ctr.once`.
CTR = """#!/bin/busybox ash
store=$0.images namespace=default
touch "$store" "$0.namespaces" "$0.containers"
case "$1" in -n | --namespace) namespace=$2; shift 2 ;; esac
for last; do :; done
case "$1 $2" in
	"images import")
		echo "$namespace $last" >> "$0.log"
		mv "$0.once" "$0.said" 2>/dev/null && { cat "$0.said" >&2; exit 1; }
		read -r name more < "$last"
		[ "$name" != error ] || { echo "ctr: $more" >&2; exit 1; }
		digest=sha256:$(sha256sum < "$last" | cut -c 1-64)
		for name in "$name" "localhost/import-images@$digest"; do
			grep -vF "$namespace $name " "$store" > "$store.new"
			echo "$namespace $name $digest" >> "$store.new"
			mv "$store.new" "$store"
		done
		;;
	"images ls")
		if [ "$last" = -q ]; then
			awk -v n="$namespace" '$1 == n { print $2 }' "$store"
		else
			echo "REF TYPE DIGEST"
			awk -v n="$namespace" '$1 == n { print $2, "type", $3 }' "$store"
		fi
		;;
	"images rm") grep -vF "$namespace $last " "$store" > "$store.new"; mv "$store.new" "$store" ;;
	"tasks ls") cat "$0.tasks" ;;
	"namespaces ls") echo "NAME LABELS"; cat "$0.namespaces" ;;
	"containers ls")
		echo "CONTAINER IMAGE RUNTIME"
		awk -v n="$namespace" '$1 == n { print $2, $3, "io.containerd.runc.v2" }' "$0.containers"
		;;
	"snapshots ls") echo "KEY PARENT KIND" ;;
esac
"""


@dataclass
class Machine:
    """A root for scripts: their tools, and what they wrote down."""

    root: Path

    def tool(self, name: str, text: str) -> Path:
        path = self.root / "usr/local/sbin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def script(self, path: str, **changed: str) -> None:
        """Take a script of the project; `changed`: variables with other values."""
        (source,) = (CHECKOUT.root / "extensions").glob(f"*/files/{path}")
        text = MOVED.sub(lambda found: f"{self.root}{found[0]}", source.read_text())
        text = text.replace("#!/bin/sh\n", "#!/bin/busybox ash\n", 1)
        if path.endswith(("service.sh", "import-images")):
            shebang = "#!/bin/busybox ash\n"
            text = f"{shebang}ROOT={self.root}\n{INSTEAD}\n{text.removeprefix(shebang)}"
        # Nothing of this machine but BusyBox.
        text = text.replace(":/usr/sbin:/usr/bin:/sbin:/bin\n", "\n")
        for name, value in changed.items():
            text, count = re.subn(rf"\b{name}=\S*", f"{name}={value}", text)
            assert count, f"{path} has no {name}"
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)

    def run(self, path: str, *words: str) -> tuple[int, str]:
        """Run a script; return its exit status and all it said."""
        done = subprocess.run(
            [BUSYBOX, "ash", self.root / path, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env={"PATH": "/nonexistent", "http_proxy": "http://127.0.0.1:9"},
            check=False,
        )
        return done.returncode, done.stdout

    def log(self, path: str) -> list[str]:
        return (self.root / path).read_text().splitlines()


def made_in(root: Path) -> Iterator[Machine]:
    """Make the new folder `root` a machine with containerd's scripts; at the end, kill what still runs."""
    for folder in ("usr/local/sbin", "usr/local/bin", "proc/sys/net/ipv4/conf/all", "sys/fs/cgroup"):
        (root / folder).mkdir(parents=True)
    made = Machine(root)
    (root / "user").write_text("0\n")
    (root / "proc/mounts").write_text("tmpfs / tmpfs rw 0 0\n")
    made.script("usr/local/share/containerd/service.sh")
    # The checks ask the kernel of a guest: tests/tools/extensions/test_container_checks.py.
    checks = 'require() { echo "require $*" >> "$ROOT/asked"; }\n'
    (root / "usr/local/share/containerd/checks.sh").write_text(checks)
    made.tool("ctr", CTR)
    service = root / "usr/local/etc/init.d/containerd"
    service.parent.mkdir(parents=True)
    service.write_text(CONTAINERD)
    service.chmod(0o755)
    service.with_name("containerd.runs").touch()
    yield made
    for pidfile in root.rglob("*.pid"):
        try:
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
        except (ValueError, ProcessLookupError):
            continue
