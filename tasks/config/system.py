# SPDX-License-Identifier: MIT
"""The table `[system]` of a profile: host name, start commands, users, backup.

tcbuild appends the changed files to corepure64.gz as one more archive; the base stays as it
is.  The files are Tiny Core's: /opt/bootsync.sh, /opt/bootlocal.sh, /opt/.filetool.lst,
/etc/passwd and /etc/shadow.  mydata.tgz lies beside the extensions of a disk image;
filetool.sh writes it and tc-restore.sh reads it.
"""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tasks.formats import compression
from tasks.formats.cpio import Member, directory, regular
from tasks.formats.initramfs_unpacker import RootFs
from tasks.origins.sources import AnySource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.toml_schema import PATTERN, SECRET

# crypt(5): SHA-256 and SHA-512, which both BusyBox and glibc support.
CRYPT = re.compile(r"\$[56]\$(rounds=[0-9]+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43,86}|\*|!")
HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
STAFF_GID = 50


@dataclass(frozen=True)
class User:
    """A user of the running system: a user of the base that gets a password, or a new user.

    name: the user's name.
    password: a crypt(5) hash (`openssl passwd -6`), never the password itself; `*` locks it.
    uid: the number of a new user; a user of the base needs none.
    """

    name: str = field(metadata={PATTERN: NAME})
    password: str = field(default="*", metadata={PATTERN: CRYPT, SECRET: True})
    uid: int | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name: expected a user name (a-z, 0-9, _ and -), got {self.name!r}")
        if not CRYPT.fullmatch(self.password):
            # The text may be a password in clear, so the message does not repeat it.
            raise ValueError("password: expected a hash as `openssl passwd -6` prints it, or '*'")


@dataclass(frozen=True)
class System:
    """The running system.

    hostname: the host name.
    bootsync: shell lines added to /opt/bootsync.sh, which runs before the boot goes on.
    bootlocal: shell lines added to /opt/bootlocal.sh, which runs in the background.
    backup: paths added to /opt/.filetool.lst, without a leading slash.
    users: users with a password, and new users.
    mydata: a folder of the checkout.  Its content is restored at boot, as paths below `/`.  Or a source
    of a mydata.tgz, which is taken as it is.
    """

    hostname: str = field(default="", metadata={PATTERN: HOSTNAME})
    bootsync: tuple[str, ...] = ()
    bootlocal: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    mydata: AnySource | str = ""

    def __post_init__(self) -> None:
        if self.hostname and not HOSTNAME.fullmatch(self.hostname):
            raise ValueError(f"hostname: expected letters, digits and -, got {self.hostname!r}")
        for path in self.backup:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"backup: expected paths below / without a leading slash, got {path!r}")
        if not isinstance(self.mydata, str) and self.mydata.is_package:
            raise ValueError("mydata: expected a folder or a source of a file; a package is none")


def members(system: System, root: RootFs) -> list[Member]:
    """Return the files that `system` changes in `root`, the base with modules and extensions, sorted.

    Raises `UserError` if the base lacks a file that must be changed.
    """
    changed: dict[str, Member] = {}
    if system.hostname:
        changed["etc/hostname"] = regular("etc/hostname", f"{system.hostname}\n".encode())
    first = (f"/usr/bin/sethostname {system.hostname}",) if system.hostname else ()
    if first + system.bootsync:
        # bootlocal.sh may use the host name, so this comes before its start.
        changed["opt/bootsync.sh"] = _script(
            root, "opt/bootsync.sh", first + system.bootsync, "/opt/bootlocal.sh"
        )
    if system.bootlocal:
        changed["opt/bootlocal.sh"] = _script(root, "opt/bootlocal.sh", system.bootlocal)
    if system.backup:
        listed = _text(root, "opt/.filetool.lst").splitlines()
        lines = [*listed, *(path for path in system.backup if path not in listed)]
        changed["opt/.filetool.lst"] = _edited(root, "opt/.filetool.lst", lines)
    for user in system.users:
        for member in _user(user, root, changed):
            changed[member.name] = member
    return [changed[name] for name in sorted(changed)]


def check_users(system: System, root: RootFs) -> None:
    """Raise `UserError` for the first user that `members` would refuse; `root` is the base alone."""
    changed: dict[str, Member] = {}
    for user in system.users:
        changed |= {member.name: member for member in _user(user, root, changed)}


def _text(root: RootFs, name: str, changed: dict[str, Member] | None = None) -> str:
    if changed and name in changed:
        return changed[name].data.decode("utf-8", "surrogateescape")
    node = root.find(name, follow=True)
    if node is None or node.is_dir:
        raise UserError(f"the base has no /{name}", "the [system] table of the profile changes that file")
    return node.data.decode("utf-8", "surrogateescape")


def _edited(root: RootFs, name: str, lines: list[str]) -> Member:
    node = root.find(name, follow=True)
    assert node is not None
    data = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
    return regular(name, data, node.mode & 0o7777, node.uid, node.gid)


def _script(root: RootFs, name: str, added: tuple[str, ...], before: str = "") -> Member:
    """Return script `name` with `added`, before the first line that begins with `before`, else at the end."""
    lines = _text(root, name).splitlines()
    at = next((n for n, line in enumerate(lines) if before and line.startswith(before)), len(lines))
    return _edited(root, name, [*lines[:at], *added, *lines[at:]])


def _user(user: User, root: RootFs, changed: dict[str, Member]) -> list[Member]:
    passwd = _text(root, "etc/passwd", changed).splitlines()
    shadow = _text(root, "etc/shadow", changed).splitlines()
    known = {line.split(":")[0]: line.split(":") for line in passwd}
    made: list[Member] = []
    if user.name not in known:
        if user.uid is None:
            raise UserError(f"user {user.name} is not in the base", "give it a uid in [[system.users]]")
        if any(fields[2] == str(user.uid) for fields in known.values() if len(fields) > 2):
            raise UserError(f"user {user.name}: uid {user.uid} is taken in the base")
        passwd.append(f"{user.name}:x:{user.uid}:{STAFF_GID}::/home/{user.name}:/bin/sh")
        made += _home(user, root)
    elif user.uid is not None and known[user.name][2] != str(user.uid):
        raise UserError(f"user {user.name} has uid {known[user.name][2]} in the base, not {user.uid}")
    old = next((line.split(":") for line in shadow if line.split(":")[0] == user.name), None)
    fields = [user.name, user.password, *(old[2:] if old else ["", "0", "99999", "7", "", "", ""])]
    shadow = [line for line in shadow if line.split(":")[0] != user.name] + [":".join(fields)]
    return [*made, _edited(root, "etc/passwd", passwd), _edited(root, "etc/shadow", shadow)]


def _home(user: User, root: RootFs) -> list[Member]:
    assert user.uid is not None
    home = f"home/{user.name}"
    made = [directory(home, 0o755, user.uid, STAFF_GID)]
    for name, member in root.members().items():
        if name.startswith("etc/skel/"):
            below = home + name.removeprefix("etc/skel")
            made.append(Member(below, member.mode, user.uid, STAFF_GID, data=member.data))
    return made


def mydata_folder(system: System) -> Path | None:
    """Return the folder of the checkout or of a tree that becomes mydata.tgz; None if there is none."""
    named = system.mydata
    return CHECKOUT.path(named) if isinstance(named, str) and named else None


def mydata(folder: Path, epoch: int) -> bytes:
    """Return mydata.tgz with the content of `folder`, every owner root and every time `epoch`.

    Files below home/tc belong to tc.  Raises `UserError` if `folder` does not exist.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder", "system.mydata names a folder of the checkout, or of a tree"
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            info = archive.gettarinfo(path, name)
            of_tc = name == "home/tc" or name.startswith("home/tc/")
            info.uid, info.gid = (1001, STAFF_GID) if of_tc else (0, 0)
            info.uname = info.gname = ""
            info.mtime = epoch
            info.mode = 0o755 if path.is_dir() or info.mode & 0o100 else 0o644
            with path.open("rb") if info.isreg() else io.BytesIO() as content:
                archive.addfile(info, content)
    return compression.compress(packed.getvalue(), "gzip")
