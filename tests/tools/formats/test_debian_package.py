# SPDX-License-Identifier: MIT
"""Debian packages, unpacked by the real programs: hostile and damaged ones are refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.formats import debian_package, unpack_limits
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.repository import Repository, serving


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with serving(tmp_path / "apt", monkeypatch) as made:
        yield made


def test_deb_is_unpacked_on_top_of_what_is_there(repository: Repository, tmp_path: Path) -> None:
    repository.add("one", "1", {"usr/one": b"1"})
    repository.add("two", "1", {"usr/two": b"2"})
    for name in ("one", "two"):
        debian_package.unpack_deb(repository.deb(name), tmp_path / "root")
    assert sorted(path.name for path in (tmp_path / "root/usr").iterdir()) == ["one", "two"]


def test_damaged_deb_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.add("one", "1")
    deb = repository.deb("one")
    deb.write_bytes(deb.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"one_1\.deb: the package is damaged") as caught:
        debian_package.unpack_deb(deb, tmp_path / "root")
    assert "dpkg-deb" in caught.value.detail


def hostile_deb(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write a package (deb(5): an ar archive of three members) whose files are `members`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    parts = {"debian-binary": b"2.0\n", "control.tar": empty.getvalue(), "data.tar": data.getvalue()}
    path.write_bytes(
        b"!<arch>\n"
        + b"".join(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
            for name, content in parts.items()
        )
    )
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "members, expected",
    [
        ([member("./dev/zero", tarfile.CHRTYPE)], "'./dev/zero' is a character device"),
        ([member("./pipe", tarfile.FIFOTYPE)], "'./pipe' is a FIFO"),
        ([member("./../up")], "leaves the folder"),
        ([member("./etc", tarfile.SYMTYPE, "/tmp"), member("./etc/evil")], "through the symlink 'etc'"),
        ([member("./hard", tarfile.LNKTYPE, "/etc/passwd")], "is a hard link to '/etc/passwd'"),
    ],
    ids=["device", "fifo", "parent", "through-symlink", "hard-link"],
)
def test_hostile_package_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], expected: str) -> None:
    deb = hostile_deb(tmp_path / "evil.deb", *members, member("./late"))
    with pytest.raises(UserError) as caught:
        debian_package.unpack_deb(deb, tmp_path / "root")
    assert caught.value.message.startswith("evil.deb: ")
    assert expected in caught.value.message
    assert list((tmp_path / "root").iterdir()) == []


def test_absolute_symlinks_are_usual_in_packages(tmp_path: Path) -> None:
    debian_package.unpack_deb(
        hostile_deb(tmp_path / "a.deb", member("./x", tarfile.SYMTYPE, "/y")), tmp_path / "root"
    )
    assert os.readlink(tmp_path / "root/x") == "/y"


def test_package_bomb_is_refused(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.add("bomb", "1", {"usr/small": b"1", "usr/zeros": bytes(4 << 20)})
    deb = repository.deb("bomb")
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)
    assert deb.stat().st_size * unpack_limits.MAX_RATIO < 4 << 20
    with pytest.raises(UserError, match=r"bomb_1\.deb: with './usr/zeros' it unpacks to"):
        debian_package.unpack_deb(deb, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_limit_of_the_shell_is_no_damage(repository: Repository, tmp_path: Path) -> None:
    """As after `ulimit -f`: dpkg-deb's tar is killed, or it says that the file is too large."""
    repository.add("one", "1", {"usr/one": bytes(100_000)})
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from tasks.formats.debian_package import unpack_deb; from tasks.util.errors import report_errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "with report_errors():\n"
        "    unpack_deb(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    deb = repository.deb("one")
    done = subprocess.run(
        [sys.executable, "-c", script, deb, tmp_path / "root"],
        cwd=CHECKOUT.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "a file would be larger than this shell allows (ulimit -f)" in done.stderr
    assert "damaged" not in done.stderr
    assert "Traceback" not in done.stderr
