# SPDX-License-Identifier: MIT
"""Host name, start commands, users and backup of a profile, laid over somebody's base."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import system
from tasks.config.system import System, User
from tasks.formats.cpio import directory, regular, symlink
from tasks.formats.initramfs_unpacker import RootFs
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.file import FileSource
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

HASH = "$6$salt$" + "a" * 86
PASSWD = "root:x:0:0:root:/root:/bin/sh\ntc:x:1001:50:Linux User,,,:/home/tc:/bin/sh\n"
SHADOW = "root:*:13525:0:99999:7:::\ntc:*:13646:0:99999:7:::\n"


@pytest.fixture
def root() -> RootFs:
    """A base root with the files that a profile may change."""
    base = RootFs()
    base.unpack(
        [
            *(directory(name) for name in ("etc", "etc/skel", "home", "opt")),
            regular("etc/passwd", PASSWD.encode()),
            regular("etc/shadow", SHADOW.encode(), 0o640, 0, 42),
            regular("etc/skel/.profile", b"PS1=x\n", 0o755),
            symlink("etc/skel/link", ".profile"),
            regular("opt/bootsync.sh", b"#!/bin/sh\n/usr/bin/sethostname box\n/opt/bootlocal.sh &\n", 0o775),
            regular("opt/bootlocal.sh", b"#!/bin/sh\n", 0o775, 0, 50),
            regular("opt/.filetool.lst", b"opt\nhome\n", 0o664),
        ]
    )
    return base


def changed(spec: System, base: RootFs) -> dict[str, str]:
    """Return the changed files by name, after the kernel has unpacked them over the base."""
    members = system.members(spec, base)
    base.unpack(members)
    assert not base.lost
    return {member.name: base.members()[member.name].data.decode() for member in members}


def test_nothing_asked_changes_nothing(root: RootFs) -> None:
    assert system.members(System(), root) == []


def test_start_scripts_keep_their_lines_and_modes(root: RootFs) -> None:
    after = changed(
        System(hostname="hut", bootsync=("sync one",), bootlocal=("local one", "local two")), root
    )
    assert after["etc/hostname"] == "hut\n"
    lines = after["opt/bootsync.sh"].splitlines()
    assert lines[-3:] == ["/usr/bin/sethostname hut", "sync one", "/opt/bootlocal.sh &"]
    assert after["opt/bootlocal.sh"] == "#!/bin/sh\nlocal one\nlocal two\n"
    member = root.members()["opt/bootlocal.sh"]
    assert (member.mode & 0o7777, member.gid) == (0o775, 50)


def test_backup_paths_are_added_once(root: RootFs) -> None:
    assert changed(System(backup=("etc/ssh", "home")), root) == {"opt/.filetool.lst": "opt\nhome\netc/ssh\n"}


def test_a_user_of_the_base_gets_a_password_and_nothing_else(root: RootFs) -> None:
    after = changed(System(users=(User("tc", HASH),)), root)
    assert after["etc/passwd"] == PASSWD
    assert f"tc:{HASH}:13646:0:99999:7:::\n" in after["etc/shadow"]
    assert "root:*:13525" in after["etc/shadow"]
    assert root.members()["etc/shadow"].mode & 0o7777 == 0o640


def test_new_users_have_a_home_from_skel(root: RootFs) -> None:
    after = changed(System(users=(User("ada", HASH, 1002), User("tc", HASH), User("bob", uid=1003))), root)
    assert "ada:x:1002:50::/home/ada:/bin/sh\n" in after["etc/passwd"]
    assert "bob:x:1003:50::/home/bob:/bin/sh\n" in after["etc/passwd"]
    assert "bob:*:" in after["etc/shadow"]
    assert after["etc/shadow"].count(HASH) == 2
    home = root.members()["home/ada/.profile"]
    assert (home.uid, home.gid, home.data, home.mode & 0o777) == (1002, 50, b"PS1=x\n", 0o755)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (User("ada", HASH), "not in the base"),
        (User("ada", HASH, 1001), "uid 1001 is taken"),
        (User("tc", HASH, 1002), "has uid 1001 in the base"),
    ],
)
def test_users_that_do_not_fit_the_base(user: User, says: str, root: RootFs) -> None:
    with pytest.raises(UserError, match=says):
        system.members(System(users=(user,)), root)
    with pytest.raises(UserError, match=says):
        system.check_users(System(users=(User("tc", HASH), user)), root)


def test_users_that_fit_the_base_pass_the_check(root: RootFs) -> None:
    before = sorted(root.members())
    system.check_users(System(users=(User("ada", HASH, 1002), User("tc", HASH), User("bob", uid=1003))), root)
    assert sorted(root.members()) == before
    with pytest.raises(UserError, match="uid 1002 is taken"):
        system.check_users(System(users=(User("ada", uid=1002), User("bob", uid=1002))), root)


def test_a_base_without_the_file_is_said() -> None:
    with pytest.raises(UserError, match=r"no /opt/bootlocal\.sh"):
        system.members(System(bootlocal=("x",)), RootFs())


@pytest.mark.parametrize("password", ["secret", "$6$short", "$1$salt$" + "a" * 22, ""])
def test_a_password_in_clear_is_refused_and_not_repeated(password: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f'[[users]]\nname = "tc"\npassword = "{password}"\n')
    with pytest.raises(UserError, match="expected a hash") as caught:
        toml_schema.load(path, System)
    assert not password or password not in str(caught.value)


@given(st.text(max_size=30))
def test_a_user_name_that_could_break_passwd_is_refused(name: str) -> None:
    try:
        user = User(name, HASH, 1002)
    except ValueError:
        return
    assert not set(user.name) & set(":\n/ ")


def test_mydata_has_owners_times_and_modes_of_its_own(tmp_path: Path) -> None:
    for name in ("home/tc/note", "opt/run.sh"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    (tmp_path / "opt/run.sh").chmod(0o700)
    first = system.mydata(tmp_path, 1700000000)
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode | 0o022)
    assert system.mydata(tmp_path, 1700000000) == first
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as archive:
        found = {info.name: (info.uid, info.gid, info.mode, info.mtime) for info in archive}
    assert found["home/tc/note"] == (1001, 50, 0o644, 1700000000)
    assert found["home/tc"] == (1001, 50, 0o755, 1700000000)
    assert found["opt/run.sh"] == (0, 0, 0o755, 1700000000)


def test_the_zlib_of_the_machine_writes_no_mydata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of zlib compress differently; a locked Python package has its own code for it."""
    (tmp_path / "note").write_text("x" * 9999)
    first = system.mydata(tmp_path, 1700000000)
    monkeypatch.setattr("zlib.compressobj", None)
    monkeypatch.setattr("zlib.compress", None)
    assert system.mydata(tmp_path, 1700000000) == first


def test_mydata_is_a_folder_or_a_source_of_a_file() -> None:
    source = FileSource(path="/x/mydata.tgz")
    assert system.mydata_folder(System(mydata=source)) is None
    assert system.mydata_folder(System()) is None
    assert system.mydata_folder(System(mydata="profiles/hut")) == CHECKOUT.root / "profiles/hut"
    with pytest.raises(ValueError, match="mydata: expected a folder or a source of a file"):
        System(mydata=AptSource(package="x"))


def test_mydata_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        system.mydata(tmp_path / "absent", 0)
