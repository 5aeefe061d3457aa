# SPDX-License-Identifier: MIT
"""A login on each serial console of the bootcodes, and the guest's agent, for a base root without them.

Tiny Core's /etc/inittab starts a getty on tty1 alone, and what its scripts say reaches the last
`console=` alone.  The members that `members` returns change this in a core; the base stays as
it is.  The agent runs commands for a host that gives the machine its ports (tasks/vm/agent.py).
The format of /etc/inittab is BusyBox init's: `TERMINAL:RUNLEVELS:ACTION:COMMAND`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.formats.initramfs_unpacker import RootFs
from tasks.util.checkout import CHECKOUT
from tasks.util.log import logger
from tasks.util.text import shortened

# Documentation/admin-guide/serial-console.rst: console=DEVICE,BBBBPNF; the speed comes first.
CONSOLE = re.compile(r"console=(?P<terminal>(tty(S|AMA|USB)|hvc)\d+)(,(?P<speed>\d+).*)?")
SPEED = "115200"
INITTAB = "etc/inittab"
SECURETTY = "etc/securetty"
ON_CONSOLES = "sbin/on-consoles"
SERIAL_CONSOLE = "sbin/serial-console"
AGENT = "sbin/guest-agent"
SCREEN = "tty1"
AUTOLOGIN = "/sbin/autologin"


def scripts() -> dict[str, Path]:
    """Return the scripts that `members` may add: path below `/` -> file of this machine.

    Our own root has the first two.
    """
    return {
        ON_CONSOLES: CHECKOUT.find("rootfs", f"files/{ON_CONSOLES}"),
        AGENT: CHECKOUT.find("rootfs", f"files/{AGENT}"),
        SERIAL_CONSOLE: Path(__file__).with_name("serial-console"),
    }


def serial(bootcodes: Sequence[str]) -> dict[str, str]:
    """Return the serial consoles that `bootcodes` name: terminal -> speed in bits per second."""
    found = {}
    for code in bootcodes:
        match = CONSOLE.fullmatch(code)
        if match:
            found[match["terminal"]] = match["speed"] or SPEED
    return found


def members(root: RootFs, bootcodes: Sequence[str]) -> list[Member]:
    """Return what gives `root` the agent, and a login on each serial console of `bootcodes`, sorted.

    Nothing, if all is there.  Our own root sees to it by its /init and its inittab: it has
    /sbin/on-consoles, but not /sbin/serial-console, which is what this function adds to others.
    Else /etc/inittab with a line for the agent, with one for each terminal that had none, and, if there
    is one, with the boot scripts under on-consoles; /etc/securetty with these terminals; and the
    scripts.  If the root logs in without a password on tty1, it does so there.  A root without
    BusyBox's inittab stays as it is, with a warning.
    """
    wanted = serial(bootcodes)
    ours = [root.find(name, follow=True) is not None for name in (ON_CONSOLES, SERIAL_CONSOLE)]
    if ours == [True, False]:
        return []
    inittab = root.find(INITTAB, follow=True)
    lines = _lines(inittab.data) if inittab is not None else []
    if not any(_action(line) == "sysinit" for line in lines):
        what = f"no login on {shortened(list(wanted), 3)}" if wanted else "no agent for ./doit qemu:run"
        logger.warning(f"core: the base has no /{INITTAB} of BusyBox's init, so tcbuild adds {what}")
        return []
    missing = {name: speed for name, speed in wanted.items() if not _has_login(lines, name)}
    changed = _with_logins(lines, missing, autologin=_logs_in(lines)) if wanted else [*lines]
    added = [ON_CONSOLES, SERIAL_CONSOLE] if changed != lines else []
    if not any(_action(line) and AGENT in line for line in changed):
        changed.append(f"::wait:/{AGENT}")
        added.append(AGENT)
    if not added:
        return []
    made = [_changed(root, INITTAB, changed)]
    securetty = root.find(SECURETTY, follow=True)
    if securetty is not None and missing:
        listed = _lines(securetty.data)
        new = [name for name in missing if name not in listed]
        made.append(_changed(root, SECURETTY, [*listed, *new]))
    found = scripts()
    made += [cpio.regular(name, found[name].read_bytes(), 0o755) for name in added]
    if missing:
        logger.info(f"core: added a login on {shortened(list(missing), 3)}")
    return sorted(made, key=lambda member: cpio.by_path(member.name))


def _logs_in(lines: Sequence[str]) -> bool:
    """Return whether the root logs in without a password on its screen."""
    return any(_terminal(line) == SCREEN and AUTOLOGIN in line for line in lines)


def _with_logins(lines: Sequence[str], missing: dict[str, str], *, autologin: bool) -> list[str]:
    """Return inittab with the boot scripts under on-consoles, and a login on each of `missing`."""
    changed = []
    for line in lines:
        if _action(line) == "sysinit" and not _on_consoles(line):
            where, runlevels, action, command = line.split(":", 3)
            line = f"{where}:{runlevels}:{action}:/{ON_CONSOLES} {command}"
        changed.append(line)
    how = " autologin" if autologin else ""
    for name, speed in missing.items():
        changed.append(f"{name}::respawn:/{SERIAL_CONSOLE} {name} {speed}{how}")
    return changed


def _has_login(lines: Sequence[str], terminal: str) -> bool:
    """Return whether a line of inittab starts something on `terminal` again and again."""
    again = [line for line in lines if _action(line) in ("respawn", "askfirst")]
    return any(_terminal(line) == terminal or terminal in line.split(":", 3)[3].split() for line in again)


def _on_consoles(line: str) -> bool:
    return line.split(":", 3)[3].split()[:1] == [f"/{ON_CONSOLES}"]


def _terminal(line: str) -> str:
    return line.partition(":")[0]


def _action(line: str) -> str:
    fields = line.split(":", 3)
    return fields[2] if len(fields) == 4 and not line.lstrip().startswith("#") else ""


def _lines(data: bytes) -> list[str]:
    return cpio.decode(data).splitlines()


def _changed(root: RootFs, name: str, lines: Sequence[str]) -> Member:
    """Return the file `name` of `root` with other lines, its owner and mode as they are."""
    node = root.find(name, follow=True)
    assert node is not None
    text = "".join(f"{line}\n" for line in lines)
    return cpio.regular(name, cpio.encode(text), stat.S_IMODE(node.mode), node.uid, node.gid)
