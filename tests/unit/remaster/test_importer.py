# SPDX-License-Identifier: MIT
"""`./doit import`: the profile and the lock that it writes, and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.config.profile import Extension, Profile
from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.origins.lock import load_lock
from tasks.origins.sources.imported import ImportedSource
from tasks.remaster import importer
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support import images
from tests.support.media import MENU, core, disc, tcz, write

Import = Callable[..., str]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own to import into; only profiles and artifacts are there."""
    folder = tmp_path / "checkout"
    shutil.copytree(CHECKOUT.profiles, folder / "profiles")
    monkeypatch.setattr(CHECKOUT, "root", folder)
    monkeypatch.setattr(CHECKOUT, "profiles", folder / "profiles")
    monkeypatch.setattr(CHECKOUT, "artifacts", folder / "artifacts")
    return folder


@pytest.fixture
def import_(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """Import as the command does; return what it prints."""

    def call(*names: str, **options: object) -> str:
        importer.import_system(tmp_path / "cache", tmp_path, names, **options)  # type: ignore[arg-type]
        return capsys.readouterr().out

    return call


def cached(tmp_path: Path, name: str) -> list[Path]:
    return sorted((tmp_path / "cache/downloads").glob(f"*/{name}"))


def test_a_disc_becomes_a_profile(import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "My Disc 2")
    said = import_("My Disc 2")
    made = profile.load("my-disc-2")
    (kernel,), (archive,) = cached(tmp_path, "vmlinuz64"), cached(tmp_path, "corepure64.gz")
    assert kernel.read_bytes() == images.bzimage()
    assert archive.read_bytes() == core()
    assert (made.imported, made.description) == ("My Disc 2", "Imported from My Disc 2")
    assert made.kernel.image and made.kernel.image.vmlinuz == ImportedSource(
        name="vmlinuz64", sha256=sha256_file(kernel)
    )
    assert made.core.archives == (ImportedSource(name="corepure64.gz", sha256=sha256_file(archive)),)
    assert made.kernel.release == images.RELEASE
    assert made.source_date_epoch == 1_600_000_000
    assert (made.boot.bootcodes, made.boot.timeout, made.arch) == (("cde", "base"), 5, "x86_64")
    assert made.extensions == tuple(
        Extension(name, place, "imported")  # type: ignore[arg-type]
        for name, place in (("a", "onboot"), ("b", "ondemand"), ("c", "ondemand"))
    )
    locked = {one.name: one for one in load_lock(CHECKOUT.profiles / "my-disc-2.lock.toml").extension}
    for name in "abc":
        (path,) = cached(tmp_path, f"{name}.tcz")
        assert path.read_bytes() == tcz(name)
        assert locked[name].sha256 == sha256_file(path)
        assert locked[name].cached_in(tmp_path / "cache") == path
    assert [one.deps for one in locked.values()] == [("b",), (), ()]
    assert "wrote profiles/my-disc-2.toml and profiles/my-disc-2.lock.toml\n" in said
    assert f"  kernel: boot/vmlinuz64, {images.RELEASE}, {len(images.bzimage()):,} bytes\n" in said
    assert "  extensions: 3 of 'cde' (1 onboot, 0 copy2fs, 2 ondemand)\n" in said
    assert "  menu entry 'tc': loglevel=3 cde waitusb=5 dyndbg=\"file ext4 +p\"\n" in said
    assert said.endswith("build it: ./doit iso profile=my-disc-2\n")
    assert (CHECKOUT.artifacts / "my-disc-2/import.txt").read_text() in said
    assert not list((tmp_path / "cache/downloads").glob(".*"))


def test_a_second_import_changes_nothing(import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc")
    import_("disc", "one")
    files = [CHECKOUT.profiles / f"one{ending}" for ending in (".toml", ".lock.toml")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    import_("disc", "one")
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before


def test_an_edited_profile_is_kept_and_its_files_come_back(import_: Import, tmp_path: Path) -> None:
    """So a cache that was emptied is filled again."""
    disc(tmp_path / "disc")
    import_("disc")
    file = CHECKOUT.profiles / "disc.toml"
    edited = file.read_text() + "\n[disk]\nsize_mib = 99\n"
    file.write_text(edited)
    shutil.rmtree(tmp_path / "cache")
    said = import_("disc")
    assert "profiles/disc.toml and profiles/disc.lock.toml are kept: they were edited" in said
    assert "this medium has not all" not in said
    assert file.read_text() == edited
    assert cached(tmp_path, "vmlinuz64")
    import_("disc", force=True)
    assert "size_mib" not in file.read_text()


def test_another_medium_of_the_same_name_is_told_from_the_first(import_: Import, tmp_path: Path) -> None:
    """As /dev/sdb, or two folders tce: what is kept is not what was just read."""
    disc(tmp_path / "one/sdb")
    disc(tmp_path / "two/sdb", root=core(cpio.regular("etc/other", b"")))
    (tmp_path / "two/sdb/cde/optional/c.tcz").unlink()
    import_("one/sdb")
    said = import_("two/sdb")
    assert "lock.toml are kept: they were edited, or made from another medium (--force" in said
    assert "\n  but this medium has not all that they name: c.tcz, corepure64.gz\n" in said


def test_another_profile_is_not_replaced(import_: Import, mine: Path, tmp_path: Path) -> None:
    disc(tmp_path / "apt")
    before = (mine / "profiles/apt.toml").read_bytes()
    with pytest.raises(UserError, match=r"profiles/apt\.toml exists, and was not imported from apt"):
        import_("apt")
    assert (mine / "profiles/apt.toml").read_bytes() == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_it_takes_a_medium_and_a_name(names: tuple[str, ...], import_: Import) -> None:
    with pytest.raises(UserError, match="import takes a medium and a name"):
        import_(*names)


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "x.lock", "", "-x", "x y", "auto"])
def test_a_name_is_no_path(name: str, import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc")
    with pytest.raises(UserError, match="cannot be the name of a profile"):
        import_("disc", name)


def test_a_folder_tce_takes_kernel_and_core_from_another_profile(import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc", folder="tce")
    write(tmp_path, {"disc/tce/mydata.tgz": b"backup", "disc/tce/copy2fs.flg": b""})
    said = import_("disc/tce", "mine", inherit="apt")
    made = profile.load("mine")
    assert made.inherit == "apt" and made.kernel == profile.load("apt").kernel
    assert [(one.name, one.place, one.origin) for one in made.extensions] == [
        *(("attr", "onboot", "recipe"), ("a", "copy2fs", "imported")),
        *(("b", "copy2fs", "imported"), ("c", "ondemand", "imported")),
    ]
    (backup,) = cached(tmp_path, "mydata.tgz")
    assert made.system.mydata == ImportedSource(name="mydata.tgz", sha256=sha256_file(backup))
    lock = load_lock(CHECKOUT.profiles / "mine.lock.toml")
    assert lock.package == load_lock(CHECKOUT.profiles / "apt.lock.toml").package
    assert "kernel and core, and its extensions, are those of profile apt" in said
    assert said.endswith("build it: ./doit disk profile=mine (an ISO restores no backup)\n")
    with pytest.raises(UserError, match="unknown profile 'gone'"):
        import_("disc/tce", "mine2", inherit="gone")


def test_what_is_inherited_may_stand_on_a_release_and_be_unlocked(import_: Import, tmp_path: Path) -> None:
    """Profile tc11 does: its kernel and core are its release's, and its extensions are not locked."""
    disc(tmp_path / "disc", folder="tce")
    import_("disc/tce", "mine")
    made = profile.load("mine")
    assert made.kernel == profile.load("tc11").kernel
    below = profile.load("tc11").extensions
    assert made.extensions[: len(below)] == below
    assert {one.origin for one in made.extensions[len(below) :]} == {"imported"}
    assert not (CHECKOUT.profiles / "mine2.toml").exists()


def test_32_bit_is_seen_in_the_kernel(import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc")
    write(tmp_path, {"disc/boot/vmlinuz64": images.bzimage(bits=32)})
    import_("disc")
    assert profile.load("disc").arch == "x86"
    assert cached(tmp_path, "vmlinuz") and cached(tmp_path, "core.gz")


def test_what_the_core_has_apart_is_shown(import_: Import, tmp_path: Path) -> None:
    root = core(*(cpio.regular(f"etc/{n:02}\n\x1b[31m", b"") for n in range(30)))
    disc(tmp_path / "disc", root=root)
    write(tmp_path, {"base.gz": core()})
    said = import_("disc", base="base.gz")
    record = (CHECKOUT.artifacts / "disc/import.txt").read_text()
    assert "the core against base.gz: 30 added, 0 changed, 0 removed\n" in said
    assert "  + etc/19\\n\\x1b[31m (0 bytes)\n  and 10 more: artifacts/disc/import.txt\n" in said
    assert record.count("\n  + etc/") == 30


HOSTILE: dict[str, tuple[dict[str, bytes], str]] = {
    "no kernel": ({"boot/vmlinuz64": b"MZ" * 5000}, r"'boot/vmlinuz64' of .* is no kernel: "),
    "cut kernel": ({"boot/vmlinuz64": b"x"}, "is no kernel: "),
    "no core": ({"boot/corepure64.gz": b"x" * 99}, "'boot/corepure64.gz': "),
    "cut core": ({"boot/corepure64.gz": core()[:-20]}, "'boot/corepure64.gz': "),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_part_is_one_line(case: str, import_: Import, tmp_path: Path) -> None:
    files, words = HOSTILE[case]
    disc(tmp_path / "disc")
    write(tmp_path / "disc", files)
    with pytest.raises(UserError, match=words):
        import_("disc")
    assert not (CHECKOUT.profiles / "disc.toml").exists()


def test_another_list_for_the_boot(import_: Import, tmp_path: Path) -> None:
    """The bootcode lst names it, and what it names is loaded in place of what onboot.lst names."""
    disc(tmp_path / "disc", menu=MENU.replace("base\nMENU", "cde lst=mine.lst\nMENU"))
    write(tmp_path, {"disc/cde/mine.lst": b"c.tcz\n"})
    assert "mine.lst" not in import_("disc")
    made = profile.load("disc")
    assert [one.name for one in made.extensions if one.place == "onboot"] == ["c"]
    assert made.boot.bootcodes == ("cde",)


def test_hostile_words_stay_words(import_: Import, tmp_path: Path) -> None:
    menu = MENU.replace(
        "APPEND initrd=/boot/corepure64.gz base",
        "APPEND initrd=/boot/corepure64.gz a'b c\x1b[0m tce=sda1/x lst=../../x.lst home=sda2 ok loglevel=3",
    )
    disc(tmp_path / "disc", menu=menu)
    write(
        tmp_path / "disc/cde",
        {
            "optional/a.tcz.dep": b"gone.tcz\n../../x\nb.tcz\n",
            "optional/a.tcz.md5.txt": b"0" * 32 + b"  a.tcz\n",
            "optional/bad.tcz": b"no squashfs",
            "optional/;reboot.tcz": tcz("x"),
        },
    )
    said = import_("disc")
    made: Profile = profile.load("disc")
    assert made.boot.bootcodes == ("cde", "home=sda2", "ok")
    assert [one.name for one in made.extensions] == ["a", "b", "c"]
    for line in (
        'the bootcode "a\'b": no menu of tcbuild can carry it',
        "the bootcode 'c\\x1b[0m': no menu of tcbuild can carry it",
        "the bootcode tce=sda1/x: it names the place of what is imported",
        "what is at home=sda2: the bootcode names a disk of that machine, and stays",
        "'../../x.lst': the medium has no such list, so nothing is loaded at boot",
        "what a needs and the medium lacks: gone",
        "a.tcz.dep: '../../x' names no extension",
        "the .md5.txt of a: it names another file than its .tcz",
        "'cde/optional/bad.tcz' is no squashfs file",
        "'cde/optional/;reboot.tcz' has a name that no extension may have",
    ):
        assert f"  {line}\n" in said


@pytest.mark.parametrize("gone", ["boot/vmlinuz64", "boot/corepure64.gz"])
def test_half_a_system_is_refused(gone: str, import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc")
    (tmp_path / "disc" / gone).unlink()
    with pytest.raises(UserError, match=r"has a (kernel, but no core|core, but no kernel)") as caught:
        import_("disc")
    assert "its folder tce alone" in caught.value.hint


def test_a_medium_without_a_system(import_: Import, tmp_path: Path) -> None:
    write(tmp_path, {"stick/x": b"1", "file": b"text\n"})
    with pytest.raises(UserError, match="has no Tiny Core on it"):
        import_("stick")
    with pytest.raises(UserError, match="file is text, not a medium with Tiny Core"):
        import_("file")
    with pytest.raises(UserError, match="gone does not exist"):
        import_("gone")


def test_without_a_menu_the_usual_names_are_taken(import_: Import, tmp_path: Path) -> None:
    disc(tmp_path / "disc", menu="DEFAULT nothing\n")
    import_("disc")
    assert profile.load("disc").boot.bootcodes == ("cde",)


def test_without_a_menu_one_kernel_of_several_is_taken_and_the_others_are_named(
    import_: Import, tmp_path: Path
) -> None:
    disc(tmp_path / "disc", menu="")
    write(tmp_path / "disc", {"boot/vmlinuz": images.bzimage(), "boot/core.gz": core()})
    said = import_("disc")
    assert "  kernel: boot/vmlinuz, " in said
    assert "  core: boot/core.gz, " in said
    for other, taken in (("boot/vmlinuz64", "boot/vmlinuz"), ("boot/corepure64.gz", "boot/core.gz")):
        assert f"  '{other}': without a boot menu, '{taken}' is taken (import a copy" in said


def test_modules_of_the_running_kernel_are_named_by_their_release(import_: Import, tmp_path: Path) -> None:
    name = f"ipv6-netfilter-{images.RELEASE}"
    disc(tmp_path / "disc")
    write(
        tmp_path / "disc/cde/optional",
        {"a.tcz.dep": b"ipv6-netfilter-KERNEL.tcz\nalsa-KERNEL\n", f"{name}.tcz": tcz(name)},
    )
    assert "what a needs and the medium lacks: alsa-KERNEL" in import_("disc")
    (entry, *_) = load_lock(CHECKOUT.profiles / "disc.lock.toml").extension
    assert entry.deps == (name,)


def test_the_newest_time_that_has_passed_counts() -> None:
    def root(*times: int) -> dict[str, Member]:
        return {str(one): Member(str(one), 0o100644, mtime=one) for one in times}

    assert importer._epoch(root(5, 7, 0, 0xFFFFFFFF)) == 7
    assert importer._epoch(root(0)) == importer.FALLBACK_EPOCH
