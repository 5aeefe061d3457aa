# SPDX-License-Identifier: MIT
"""What `--share DIR[:PATH][:ro]` means, what is refused, and what the guest is asked to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.util.errors import UserError
from tasks.vm import guest_kernel, share, virtiofsd
from tasks.vm.machine import Share
from tests.support.settings import both, with_values

VIRTIOFS = "CONFIG_FUSE_FS=m\nCONFIG_VIRTIO_FS=m\n"
NINE_P = "CONFIG_NET_9P=y\nCONFIG_NET_9P_VIRTIO=y\nCONFIG_9P_FS=y\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with folders: src, and some with names that are hard to write."""
    for name in (b"src", b"a:b", b"a b,c\nd\xe9", b"ro"):
        (tmp_path / os.fsdecode(name)).mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("word", "name", "path", "read_only"),
    [
        ("src", "src", "/mnt/src", False),
        ("./src/", "src", "/mnt/src", False),
        ("src:ro", "src", "/mnt/src", True),
        ("src:/work", "src", "/work", False),
        ("src:/home/tc/src/:ro", "src", "/home/tc/src", True),
        ("src:/mnt//x/.", "src", "/mnt/x", False),
        ("src:/mnt/sdocs", "src", "/mnt/sdocs", False),
        ("ro", "ro", "/mnt/ro", False),
        ("a:b:/mnt/x", "a:b", "/mnt/x", False),
        ("a b,c\nd\udce9:/mnt/x:ro", "a b,c\nd\udce9", "/mnt/x", True),
        (".:/opt/all", "", "/opt/all", False),
    ],
)
def test_words(word: str, name: str, path: str, read_only: bool, folder: Path) -> None:
    assert share.parse([word], folder) == (Share(folder / name, path, read_only),)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "no folder is named"),
        (":ro", "no folder is named"),
        (":/mnt/x", "no folder is named"),
        ("nowhere", "nowhere does not exist"),
        ("file", "file is no folder"),
        ("a:b", "'b' is no absolute path of the guest"),
        ("src:x", "'x' is no absolute path of the guest"),
        ("src:", "'' is no absolute path of the guest"),
        ("a b,c\nd\udce9", "the guest gets no folder named 'a b,c\\nd\\udce9'"),
        ("/", "the guest gets no folder named ''"),
        ("src:/mnt/a b", "'/mnt/a b': expected letters, digits"),
        ("src:/mnt/../etc", "'/mnt/../etc': expected letters, digits"),
        *(
            (f"src:{path}", f"nothing may be mounted at {path}: the system is there")
            for path in (
                "/",
                "/proc",
                "/proc/x",
                "/sys",
                "/dev",
                "/dev/shm",
                "/etc",
                "/etc/init.d",
                "/usr",
                "/mnt",
                "/tmp",
                "/var/log",
            )
        ),
        ("src:/etc/", "nothing may be mounted at /etc: the system is there"),
        ("src:/usr/local/tce.installed", "extensions are there"),
        ("src:/tmp/tcloop/x", "extensions are there"),
        *(
            (f"src:/mnt/{name}", "the boot scripts mount drives there")
            for name in ("sr0", "sda1", "vdb", "sdab3", "nvme0n1p1", "mmcblk0p2", "cdrom", "sda1/tce")
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(word: str, said: str, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        share.parse([word], folder)
    assert said in caught.value.message
    assert "\n" not in str(caught.value).partition("\n  hint: ")[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["src:/mnt/x", "ro:/mnt/x/"], "/mnt/x is taken by another share"),
        (["src:/mnt/x", "ro:/mnt/x/y"], "/mnt/x/y is below /mnt/x, which is a share, too"),
        (["src:/mnt/x/y", "ro:/mnt/x"], "/mnt/x/y is below /mnt/x, which is a share, too"),
    ],
)
def test_shares_do_not_meet(words: list[str], said: str, folder: Path) -> None:
    with pytest.raises(UserError, match=said):
        share.parse(words, folder)
    assert len(share.parse(["src:/mnt/x", "src:/mnt/xy"], folder)) == 2


def test_it_is_refused_before_anything_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `./doit qemu`; a relative folder is below the one where the command was typed."""
    monkeypatch.setenv("TCBUILD_CWD", str(folder))
    variables.check_qemu([("--share", "src")])
    with pytest.raises(UserError, match="--share src:/proc: nothing may be mounted"):
        variables.check_qemu([("--share", "src:/proc")])


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """A profile whose kernel is built: nothing of a share is in it."""
    made = make_settings()
    (made.paths.kernel / "modules").mkdir(parents=True)
    (made.paths.kernel / "release").write_text("6.1.0\n")
    (made.paths.kernel / "config").write_text("CONFIG_VIRTIO=y\n")
    return made


def add_modules(settings: Settings, *names: str) -> None:
    for name in names:
        (settings.paths.kernel / "modules" / f"{name}.ko.gz").touch()


def chosen(settings: Settings, *, read_only: bool = False) -> str:
    (one,) = share.choose(*both(settings), [Share(Path("/x"), "/mnt/x", read_only)])
    return one.transport


def test_the_kernel_decides(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol that is a module is worth nothing without the module at boot."""
    monkeypatch.setattr(virtiofsd, "missing", lambda: "")
    monkeypatch.setattr(virtiofsd, "refuses", lambda _: "")
    config = settings.paths.kernel / "config"
    config.write_text(NINE_P + VIRTIOFS)
    assert chosen(settings) == "9p"
    add_modules(settings, "fuse")
    assert chosen(settings) == "9p"
    add_modules(settings, "virtiofs")
    assert chosen(settings) == "virtiofs"
    config.write_text(VIRTIOFS)
    assert chosen(settings) == "virtiofs"
    config.write_text(NINE_P)
    assert chosen(settings) == "9p"


def test_modules_of_an_extension_count_if_it_is_loaded_at_boot(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.paths.kernel / "config").write_text(NINE_P.replace("=y", "=m"))
    monkeypatch.setattr(guest_kernel, "extensions_at", lambda *_: ["top"])
    settings.paths.tcz.mkdir(parents=True)
    (settings.paths.tcz / "top.tcz.dep").write_text("filesystems-KERNEL.tcz\n")
    listed = settings.paths.tcz / "filesystems-6.1.0.tcz.list"
    paths = [f"usr/local/lib/modules/6.1.0/kernel/fs/{name}.ko.gz\n" for name in ("9pnet", "9pnet_virtio")]
    listed.write_text("".join(paths))
    with pytest.raises(UserError, match="nothing that is loaded at boot has the module 9p\\)"):
        chosen(settings)
    listed.write_text("".join([*paths, "kernel/fs/9p/9p.ko.gz\n"]))
    assert chosen(settings) == "9p"


def test_the_machine_decides(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.paths.kernel / "config").write_text(NINE_P + VIRTIOFS.replace("=m", "=y"))
    monkeypatch.setattr(virtiofsd, "missing", lambda: "no virtiofsd is installed")
    assert chosen(settings) == "9p"
    monkeypatch.setattr(virtiofsd, "missing", lambda: "")
    monkeypatch.setattr(virtiofsd, "refuses", lambda share: "no" if share.read_only else "")
    assert (chosen(settings), chosen(settings, read_only=True)) == ("virtiofs", "9p")
    monkeypatch.setattr(virtiofsd, "refuses", lambda _: "")
    assert chosen(settings, read_only=True) == "virtiofs"


def test_what_the_kernel_lacks_is_named_with_its_fragment(settings: Settings) -> None:
    bare = with_values(settings, fragments=())
    with pytest.raises(UserError) as caught:
        chosen(bare)
    assert "9p (the kernel has no CONFIG_NET_9P, CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS)" in caught.value.message
    assert "virtiofs (the kernel has no CONFIG_FUSE_FS, CONFIG_VIRTIO_FS)" in caught.value.message
    assert caught.value.hint == "add the fragment qemu"
    assert share.choose(*both(bare), []) == ()


SHARES = [Share(Path("/a"), "/mnt/a", transport="virtiofs"), Share(Path("/b"), "/opt/b", True, "9p")]
MOUNTED = b"share0 /mnt/a virtiofs rw,relatime 0 0\nshare1 /opt/b 9p ro,sync,access=client,trans=virtio 0 0\n"


def test_the_program_that_mounts_them() -> None:
    lines = share.mount_program(SHARES).decode().splitlines()
    assert "mkdir -p /mnt/a && mount -t virtiofs  share0 /mnt/a || exit 1" in lines
    options = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap"
    assert f"mkdir -p /opt/b && mount -t 9p -o {options} -o ro share1 /opt/b || exit 1" in lines


def test_what_the_guest_has_mounted_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    share.check_mounted(SHARES, 0, MOUNTED, b"")
    said = capsys.readouterr()
    assert "mounted /mnt/a by virtiofs, read and write" in said.out + said.err
    assert "mounted /opt/b by 9p, read-only" in said.out + said.err


@pytest.mark.parametrize(
    "output", [b"", MOUNTED.replace(b"virtiofs", b"9p"), MOUNTED.replace(b"/mnt/a", b"/mnt")]
)
def test_a_share_that_is_not_mounted_is_an_error(output: bytes) -> None:
    with pytest.raises(UserError, match="did not mount the share /mnt/a by virtiofs") as caught:
        share.check_mounted(SHARES, 1, output, b"mount: no such device\n")
    assert "no such device" in caught.value.detail
