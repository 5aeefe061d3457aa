# SPDX-License-Identifier: MIT
"""Extensions that bring the same path: found in listings, judged by what they really hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.checks import conflicts
from tasks.checks.conflicts import Conflict
from tasks.config.profile import Extension
from tasks.config.settings import Settings
from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.formats.initramfs_unpacker import RootFs
from tasks.origins.lock import Lock, LockedExtension
from tasks.util.errors import UserError


@pytest.mark.parametrize(
    ("listings", "found"),
    [
        ({"a": ["usr/bin/x"], "b": ["usr/bin/y", "usr/bin2"], "c": []}, []),
        ({"a": ["usr/bin/x", "etc/a"], "b": ["usr/bin/x"]}, [Conflict("a", "b", ("usr/bin/x",))]),
        ({"a": ["1"], "b": ["2"], "c": ["2"]}, [Conflict("b", "c", ("2",))]),
        ({"b": ["1"], "a": ["1"]}, [Conflict("b", "a", ("1",))]),
        (
            {"a": ["1"], "b": ["1"], "c": ["1"]},
            [Conflict("a", "b", ("1",)), Conflict("a", "c", ("1",)), Conflict("b", "c", ("1",))],
        ),
        ({"a": ["usr/lib/x"], "b": ["usr/lib/x/deep/file"]}, [Conflict("a", "b", ("usr/lib/x",))]),
        ({"a": ["usr/lib/x/deep/file"], "b": ["usr/lib/x"]}, [Conflict("a", "b", ("usr/lib/x",))]),
    ],
)
def test_paths_of_two_extensions_are_found(listings: dict[str, list[str]], found: list[Conflict]) -> None:
    assert conflicts.find(listings) == found
    if found:
        with pytest.raises(UserError, match=re.escape(str(found[0]))):
            conflicts.refuse(listings)
    else:
        conflicts.refuse(listings)


@pytest.mark.parametrize(
    ("listing", "hidden"),
    [
        (["usr/bin/getfattr", "usr/bin/setfattr"], ["usr/bin/getfattr"]),
        (["bin/ping", "usr/bin/getfattr"], ["bin/ping", "usr/bin/getfattr"]),
        (["usr/local/bin/getfattr", "usr/bin/tar", "bin/busybox", "etc/profile"], []),
    ],
)
def test_a_program_that_busybox_of_the_base_hides(
    listing: list[str], hidden: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not one in another folder, nor one that a package of the base has itself."""
    base = RootFs()
    base.unpack(
        [
            *map(cpio.directory, ("bin", "usr", "usr/bin", "etc")),
            cpio.symlink("bin/busybox", "/usr/bin/busybox"),
            cpio.symlink("bin/ping", "/bin/busybox.suid"),
            cpio.symlink("usr/bin/getfattr", "../../bin/busybox"),
            cpio.symlink("usr/bin/tar", "/bin/tar"),
            cpio.regular("etc/profile", b""),
        ]
    )
    with caplog.at_level("WARNING"):
        conflicts.refuse_hidden("attr", listing, base, own_root=False)
    assert [", ".join(hidden) in record.getMessage() for record in caplog.records] == [True] * bool(hidden)
    if not hidden:
        conflicts.refuse_hidden("attr", listing, base, own_root=True)
        return
    with pytest.raises(
        UserError, match=f"extension attr: BusyBox would hide its {', '.join(hidden)}: "
    ) as said:
        conflicts.refuse_hidden("attr", listing, base, own_root=True)
    assert all(f'"{path}"' in said.value.hint for path in hidden)


def test_a_long_list_is_cut() -> None:
    conflict = Conflict("a", "b", tuple("1234567"))
    assert str(conflict) == "a.tcz and b.tcz both contain 1, 2, 3, 4, 5 and 2 more"


@pytest.fixture
def image(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return a function that lays out an image's extensions: name -> members; and which are upstream.

    Members stand in memory; tests/tools has the same with real squashfs files.
    """

    def lay(content: dict[str, list[Member]], upstream: tuple[str, ...] = ()) -> Settings:
        settings = make_settings("tc11")
        extensions = tuple(Extension(name, origin="upstream") for name in upstream)
        profile = replace(settings.profile, extensions=extensions)
        settings = replace(settings, profile=profile)
        lock = Lock(extension=tuple(LockedExtension(name, "a" * 64, "b" * 32, 1) for name in upstream))
        settings.paths.tcz.mkdir(parents=True)
        settings.paths.used_lock.write_text(lock.to_toml())
        for name, members in content.items():
            paths = [member.name for member in members if member.kind != 0o040000]
            (settings.paths.tcz / f"{name}.tcz.list").write_text("".join(f"{path}\n" for path in paths))

        def read(path: Path) -> list[Member]:
            return content[path.name.removesuffix(".tcz")]

        monkeypatch.setattr(conflicts, "squashfs_members", read)
        return settings

    return lay


FILE = cpio.regular("usr/bin/x", b"one", 0o755)
LINK = cpio.symlink("usr/bin/x", "y")


@pytest.mark.parametrize(
    ("one", "other", "harmless"),
    [
        (FILE, FILE, True),
        (FILE, replace(FILE, mtime=5, nlink=2), True),
        (FILE, replace(FILE, data=b"two"), False),
        (FILE, replace(FILE, mode=0o104755), False),
        (FILE, replace(FILE, uid=7), False),
        (FILE, replace(FILE, gid=7), False),
        (FILE, LINK, False),
        (LINK, LINK, True),
        (LINK, replace(LINK, data=b"z"), False),
    ],
)
@pytest.mark.parametrize("upstream", [(), ("a",), ("a", "b")], ids=["own", "mixed", "upstream"])
def test_the_same_twice_is_fine_and_upstream_pairs_are_warned_of(
    image: Callable[..., Settings],
    capsys: pytest.CaptureFixture[str],
    one: Member,
    other: Member,
    harmless: bool,
    upstream: tuple[str, ...],
) -> None:
    settings = image({"a": [one], "b": [other]}, upstream)
    words = "a.tcz and b.tcz both contain usr/bin/x"
    if harmless or len(upstream) == 2:
        conflicts.check(settings.paths, settings.profile, ["a", "b"])
        said = capsys.readouterr().out
        assert (
            said.startswith(f"warning: {words} with different content; the") if not harmless else said == ""
        )
        return
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        conflicts.check(settings.paths, settings.profile, ["a", "b"])
    assert f"leave it out of {'b' if upstream else 'a or b'} with `drop`" in caught.value.hint


def test_a_file_and_a_folder_of_one_name_clash_and_every_pair_is_told(
    image: Callable[..., Settings],
) -> None:
    below = [cpio.directory("usr/bin/x"), cpio.regular("usr/bin/x/y", b"")]
    settings = image({"a": [FILE], "b": below, "c": [replace(FILE, data=b"")]})
    with pytest.raises(UserError) as caught:
        conflicts.check(settings.paths, settings.profile, ["a", "b", "c"])
    assert caught.value.message == "a.tcz and b.tcz both contain usr/bin/x"
    assert "a.tcz and c.tcz both contain usr/bin/x" in caught.value.detail
    assert "b.tcz and c.tcz" in caught.value.detail


def test_an_extension_that_is_not_built_is_named(image: Callable[..., Settings]) -> None:
    settings = image({"a": [FILE]})
    with pytest.raises(UserError, match="b is not built yet") as caught:
        conflicts.check(settings.paths, settings.profile, ["a", "b"])
    assert caught.value.hint == "./doit tcz:b"
