# SPDX-License-Identifier: MIT
"""`./doit verify`: what was changed in an ISO is found, wherever it is, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.cli import commands
from tasks.formats import iso_layout
from tasks.provenance import manifest_schema, verify
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support import smallimage
from tests.support.built import built
from tests.support.smallimage import SmallImage


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> SmallImage:
    return smallimage.make(tmp_path_factory.mktemp("small"))


@pytest.fixture
def image(pristine: SmallImage, tmp_path: Path) -> SmallImage:
    """A copy that a test may spoil."""
    for path in (pristine.iso, pristine.manifest):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    subprocess.run(["cp", "-a", pristine.tree, tmp_path / "tree"], check=True)
    return SmallImage(tmp_path / "tree", tmp_path / pristine.iso.name)


def refusal(iso: Path, manifest: Path | str = "", key: str = "") -> str:
    """Return the text of the one error that checking `iso` ends in."""
    with pytest.raises(UserError) as caught:
        verify.check(iso.parent, [iso.name], str(manifest), key)
    return str(caught.value)


def flip(iso: Path, offset: int) -> None:
    with iso.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 0x10]))


def place(iso: Path, path: str, part: float) -> int:
    """Return the offset in the ISO of a byte of a file, `part` (0 to 1) of the way into it."""
    start, end = iso_layout.read(iso).extent(path)
    return start + int((end - start - 1) * part)


def test_an_untouched_image_is_proved_part_by_part(
    image: SmallImage, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.check(image.iso.parent, [image.iso.name], "", "")
    said = capsys.readouterr().out
    assert "6 files, 7 members of the core, 1 extensions with 5" in said
    assert "it is not signed" in said


@pytest.mark.parametrize(
    ("path", "part", "inside"),
    [
        ("boot/vmlinuz64", 0.001, "boot/vmlinuz64: "),
        ("boot/vmlinuz64", 0.99, "boot/vmlinuz64: "),
        ("boot/corepure64.gz", 0.5, "boot/corepure64.gz: "),
        ("cde/optional/tool.tcz", 0.0, "cde/optional/tool.tcz: "),
        ("cde/optional/tool.tcz", 0.05, "cde/optional/tool.tcz"),
        ("cde/optional/tool.tcz.md5.txt", 0.1, "md5.txt: is not the md5 of cde/optional/tool.tcz"),
        ("cde/optional/tool.tcz.list", 0.1, "does not list the members of cde/optional/tool.tcz"),
        ("cde/onboot.lst", 0.0, "onboot.lst (bytes"),
    ],
)
def test_a_flipped_byte_in_a_file_is_found_and_placed(
    image: SmallImage, path: str, part: float, inside: str
) -> None:
    offset = place(image.iso, path, part)
    flip(image.iso, offset)
    said = refusal(image.iso)
    assert "the ISO as a whole: content differs" in said
    line = next(line for line in said.splitlines() if line.strip().startswith(f"{path} (bytes "))
    start, end = iso_layout.read(image.iso).extent(path)
    assert f"(bytes {start:,} to {end:,} of the ISO)" in line
    assert start <= offset < end
    assert inside in said
    assert "other differences" not in said
    assert said.count(" (bytes ") == 1, "no other file is blamed"


@pytest.mark.parametrize(
    ("offset", "area"),
    [(100, 0), (17 * 2048 - 500, 1), (-1, 2)],
    ids=["system-area", "volume-descriptor", "behind-all-files"],
)
def test_a_flipped_byte_outside_all_files_is_found(image: SmallImage, offset: int, area: int) -> None:
    flip(image.iso, offset % image.iso.stat().st_size)
    said = refusal(image.iso)
    assert f"{iso_layout.AREAS[area]}: content differs" in said
    assert " (bytes " not in said


def test_a_flipped_byte_of_the_padding_behind_a_file_is_found(image: SmallImage) -> None:
    flip(image.iso, iso_layout.read(image.iso).extent("cde/onboot.lst")[1] + 5)
    assert f"{iso_layout.AREAS[2]}: content differs" in refusal(image.iso)


def _add(tree: Path) -> None:
    (tree / "boot/extra").write_text("x")


def _remove(tree: Path) -> None:
    (tree / "cde/onboot.lst").unlink()


def _other_tcz(tree: Path) -> None:
    smallimage.make_tcz(tree / "cde/optional/tool.tcz", {"usr/bin/tool": b"evil", "usr/share/tool": b"x"})


def _more_in_tcz(tree: Path) -> None:
    files = {"usr/bin/tool": b"#!/bin/sh\n" * 900, "usr/share/tool": b"x", "etc/init": b"y"}
    smallimage.make_tcz(tree / "cde/optional/tool.tcz", files)


def _other_core(tree: Path) -> None:
    smallimage.write_core(tree / "boot/corepure64.gz", b"HELLO\n")


def _link(tree: Path) -> None:
    (tree / "boot/link").symlink_to("../../../../etc/passwd")


def _link_instead(tree: Path) -> None:
    (tree / "cde/onboot.lst").unlink()
    (tree / "cde/onboot.lst").symlink_to("/etc/passwd")


def _fifo(tree: Path) -> None:
    os.mkfifo(tree / "boot/fifo")


def _odd_name(tree: Path) -> None:
    (tree / "boot/it's 'q\" $(x)").write_text("x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_add, ["boot/extra: is not in the manifest"]),
        (_remove, ["cde/onboot.lst: is missing"]),
        (_other_tcz, ["cde/optional/tool.tcz: 'usr/bin/tool': has 4 bytes, expected 9,000"]),
        (_more_in_tcz, ["tool.tcz: 'etc/init': is not in the manifest"]),
        (_other_core, ["boot/corepure64.gz: archive 1: 'etc/motd': content differs"]),
        (_link, ["boot/link: is not a file (type l)"]),
        (_link_instead, ["cde/onboot.lst: is not a file (type l)", "cde/onboot.lst: is missing"]),
        (_fifo, ["boot/fifo: is not a file (type p)"]),
        (_odd_name, ["boot/it's 'q\" $(x): is not in the manifest"]),
    ],
)
def test_what_was_added_removed_or_exchanged_is_named(
    image: SmallImage, change: Callable[[Path], None], says: list[str]
) -> None:
    iso = image.again(change)
    said = refusal(iso, image.manifest)
    for words in says:
        assert words in said
    there = {path.name for path in iso.parent.iterdir()}
    assert there == {"tree", "changed", "small.iso", "other.iso", "small.iso.manifest.json"}


def _cut(iso: Path) -> None:
    os.truncate(iso, iso_layout.read(iso).extent("cde/optional/tool.tcz")[0])


def _empty(iso: Path) -> None:
    iso.write_bytes(b"")


def _text(iso: Path) -> None:
    iso.write_bytes(b"no image at all\n" * 9999)


def _huge_file(iso: Path) -> None:
    """Let the directory say that onboot.lst has 3 GiB (ECMA-119 9.1.4: both byte orders)."""
    data = iso.read_bytes()
    size = len(b"tool.tcz\n")
    both = size.to_bytes(4, "little") + size.to_bytes(4, "big")
    assert both in data
    huge = 3 << 30
    iso.write_bytes(data.replace(both, huge.to_bytes(4, "little") + huge.to_bytes(4, "big")))


@pytest.mark.parametrize("spoil", [_cut, _empty, _text, _huge_file])
def test_hostile_and_broken_images_end_in_one_error(image: SmallImage, spoil: Callable[[Path], None]) -> None:
    spoil(image.iso)
    said = refusal(image.iso)
    assert "the ISO as a whole" in said
    assert (
        "the end of the ISO" in said
        or "xorriso" in said
        or "too few for an ISO" in said
        or "is missing" in said
    )


def test_an_extension_that_unpacks_to_gigabytes_is_stopped(image: SmallImage) -> None:
    def bomb(tree: Path) -> None:
        path = tree / "cde/optional/tool.tcz"
        smallimage.make_tcz(path, {"usr/bin/tool": bytes(300 << 20), "usr/share/tool": b"x"})
        assert path.stat().st_size < 8 << 20

    said = refusal(image.again(bomb), image.manifest)
    assert "sqfs2tar was stopped: it unpacks to more than " in said
    assert "cde/optional/tool.tcz (bytes " in said


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"{"), "is not a manifest"),
        (
            lambda path: path.write_text(path.read_text().replace('"inputs"', '"inputz"')),
            "unknown key 'inputz'",
        ),
        (lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 2')), "expected 1"),
        (
            lambda path: manifest_schema.write(path, smallimage.manifest_of(None)),
            "is not the manifest of an ISO",
        ),
    ],
    ids=["missing", "no-json", "unknown-key", "other-format", "inputs-only"],
)
def test_manifests_that_cannot_be_used_are_told_apart(
    image: SmallImage, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(image.manifest)
    assert says in refusal(image.iso)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (r"usr/\u001b[2Jx", r"usr/\x1b[2Jx"),
        (r"usr/\udc80x", r"usr/\udc80x"),
        (r"usr/\ud800x", "it has a path that no file can have"),
    ],
)
@pytest.mark.parametrize("place", ["usr/share/tool", "cde/onboot.lst"])
def test_a_path_that_a_terminal_would_obey(image: SmallImage, name: str, says: str, place: str) -> None:
    """In a manifest, which anybody may have written: of a member and of a file."""
    text = image.manifest.read_text()
    assert f'"path": "{place}"' in text
    image.manifest.write_text(text.replace(f'"path": "{place}"', f'"path": "{name}"'))
    said = refusal(image.iso)
    assert said.isascii()
    assert "\x1b" not in said
    assert says in said


def test_options_are_known_behind_the_path_too(
    image: SmallImage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = image.iso.with_name("m.json")
    image.manifest.rename(other)
    monkeypatch.setenv("TCBUILD_CWD", str(image.iso.parent))
    assert commands.Verify().parse_execute([image.iso.name, "--manifest", "m.json"]) == 0
    assert commands.Verify().parse_execute(["--manifest=m.json", image.iso.name]) == 0
    with pytest.raises(SystemExit) as left:
        commands.Verify().parse_execute([image.iso.name, "--kee", "x"])
    assert left.value.code == 2
    assert "option --kee not recognized; did you mean --key?" in capsys.readouterr().err
    with pytest.raises(UserError, match="verify needs an ISO"):
        verify.check(image.iso.parent, [], "", "")


def test_the_built_image_is_proved_without_any_privilege() -> None:
    """As a user without rights would: no capability is left, not even to make a device."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = "import sys; from pathlib import Path; from tasks.provenance import verify\n"
    program += "verify.check(Path('/'), sys.argv[1:], '', '')"
    done = subprocess.run(
        [*drop, sys.executable, "-c", program, str(built().paths.iso)],
        cwd=CHECKOUT.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "members of the core" in done.stdout
