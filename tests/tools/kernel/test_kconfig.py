# SPDX-License-Identifier: MIT
"""The kconfig stage on real kernel trees, with the kernel's own Kconfig engine.

The tree of the `apt` profile is taken from artifacts/, or fetched and unpacked.
TCBUILD_LINUX names another one; TCBUILD_LINUX_54 one of Linux 5.4, and
TCBUILD_TC_CONFIG the config of Tiny Core 11's kernel 5.4.3: tests that need
them are skipped without.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.config.kernel_source import CONF_STAMP, FINISHED, STAMP
from tasks.config.settings import Paths, Settings
from tasks.kernel import install, kbuild, kconfig, nearest_tree, source_tree, tree_state
from tasks.kernel.fragments import parse_config, read_fragment
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.kerneltree import kconfig_part
from tests.support.settings import with_values

# With `out=`, the checkout itself may lie in a folder whose name means something to make and a shell.
CHECKOUT_NAME = "my $HOME: `id`, 100%"
# Small, and understood by 5.4 and 6.12 alike.
BASE = """\
CONFIG_SMP=y
CONFIG_MODULES=y
CONFIG_NET=y
CONFIG_INET=y
CONFIG_PCI=y
CONFIG_BLOCK=y
CONFIG_KERNEL_GZIP=y
"""


@pytest.fixture(scope="session")
def tree_54(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Kconfig part of a Linux 5.4, the oldest one whose Kconfig engine explain.c must fit."""
    named = os.environ.get("TCBUILD_LINUX_54")
    if not named:
        pytest.skip("TCBUILD_LINUX_54 names no Linux 5.4 tree")
    return kconfig_part(Path(named), tmp_path_factory.mktemp("linux-5.4"))


@pytest.fixture(scope="module", params=["apt_tree", "tree_54"])
def any_tree(request: pytest.FixtureRequest) -> Path:
    """Each tree in turn."""
    tree: Path = request.getfixturevalue(request.param)
    return tree


def make(tree: Path, output: Path, *fragments: str, base: Path | None = None, mode: str = "") -> Settings:
    """Return settings of the `apt` profile for `tree`; `base` in place of the profile's own."""
    loaded = profile.load("apt")
    output.mkdir(parents=True, exist_ok=True)
    (output / "linux").symlink_to(tree)
    if base:
        kernel = dataclasses.replace(
            loaded.kernel,
            base=FileSource(path=str(base)),
            base_mode=mode or "allnoconfig",  # type: ignore[arg-type]
            localversion="",
        )
        loaded = dataclasses.replace(loaded, kernel=kernel)
    # One compiler cache for all tests on a tree: each of them compiles scripts/kconfig.
    cache = tree.with_name("cache")
    kernel = dataclasses.replace(loaded.kernel, fragments=fragments or loaded.kernel.fragments)
    return Settings(Paths("apt", output, cache), dataclasses.replace(loaded, kernel=kernel))


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Settings]:
    """Return a function that makes settings from a small base and a fragment of the text given."""

    def call(tree: Path, text: str) -> Settings:
        base = tmp_path / CHECKOUT_NAME / "base"
        base.parent.mkdir()
        base.write_text(BASE)
        (tmp_path / "my.config").write_text(text)
        return make(tree, tmp_path / "out", str(tmp_path / "my.config"), base=base)

    return call


def declaring(settings: Settings, release: str) -> Settings:
    """Return the settings with a profile that declares a release."""
    kernel = dataclasses.replace(settings.profile.kernel, release=release)
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def configure(settings: Settings) -> None:
    """Do what `./doit kconfig` does."""
    kconfig.complete_base(settings)
    kconfig.merge(settings)


def release(settings: Settings) -> str:
    """Return the release of the config in the build folder."""
    kbuild.of_profile(settings).run(["include/config/kernel.release"])
    return install.built_release(settings.paths)


def report(settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `./doit kconfig:report` prints."""
    capsys.readouterr()
    kconfig.print_report(settings)
    return capsys.readouterr().out


def test_the_profile_and_its_fragments_hold(
    apt_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make(apt_tree, tmp_path / "out")
    configure(settings)
    folder = settings.paths.config.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        ".build",
        "base.config",
        "config",
        "diff.txt",
    ]
    final = parse_config(settings.paths.config.read_text())
    assert final["EXT4_FS_SECURITY"] == "y"  # selected; none of our lines names it
    assert final["LOCALVERSION"] == '"-tcbuild"'
    lines = report(settings, capsys)
    for name in settings.profile.kernel.fragments:
        for asked in read_fragment(CHECKOUT.kconfig / f"{name}.config"):
            assert final.get(asked.symbol, "n") == asked.value
            assert lines.count(f"{asked.where} ") == 1
    diff = (folder / "diff.txt").read_text()
    assert "+ CONFIG_EXT3_FS_SECURITY=y  (kconfig/ext3-xattr.config:" in diff.split("# followed")[0]
    assert "+ CONFIG_EXT4_FS_SECURITY=y\n" in diff.split("# followed")[1]
    assert "explain.c" not in (settings.paths.logs / "kconfig.log").read_text()

    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
    configure(settings)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()} == before
    assert not settings.paths.build.exists()


# A fragment that does everything wrong, and what must be said of each line.
WRONG = """\
CONFIG_EXT3_FS_XATTR=y
CONFIG_SQUASH_FS=y
# CONFIG_DEVMEN is not set
CONFIG_OVERLAY_FS_INDEX=y
CONFIG_EXT4_FS_POSIX_ACL=m
CONFIG_NR_CPUS=4096
CONFIG_KERNEL_XZ=y
CONFIG_KERNEL_LZO=y
CONFIG_EXT3_FS=y
# CONFIG_EXT4_FS is not set
CONFIG_NETWORK_FILESYSTEMS=y
CONFIG_NET_9P=m
CONFIG_9P_FS=y
CONFIG_VIRTIO=y
CONFIG_DEFAULT_HOSTNAME=y
CONFIG_EXT4_FS_SECURITY=y
"""


@pytest.fixture(scope="module")
def explanation(any_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the tree and, by `symbol`, what the stage says of the lines of WRONG."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "base").write_text(BASE)
    (folder / "my.config").write_text(WRONG)
    settings = make(any_tree, folder / "out", str(folder / "my.config"), base=folder / "base")
    with pytest.raises(UserError) as caught:
        configure(settings)
    made = sorted(path.name for path in settings.paths.config.parent.iterdir())
    assert made == [".build", "base.config"], "no config"
    assert not settings.paths.build.exists()
    blocks = re.split(rf"^  (?={re.escape(str(folder))})", caught.value.detail, flags=re.MULTILINE)[1:]
    assert caught.value.message.startswith(f"{len(blocks)} of ")
    return any_tree, {re.findall(r"CONFIG_(\w+)", block)[0]: block for block in blocks}


@pytest.mark.parametrize(
    ("symbol", "said"),
    [
        ("EXT3_FS_XATTR", r"unknown symbol.*\n    note: has not existed since 4\.3.*EXT4_FS_SECURITY"),
        ("EXT3_FS_XATTR", r"near names: EXT3_FS, "),
        ("SQUASH_FS", r"my\.config:2: .*unknown symbol.*\n    near names: SQUASHFS,"),
        ("DEVMEN", r"is not set: unknown symbol.*\n    near names: DEVMEM"),
        ("OVERLAY_FS_INDEX", r"got n\n    bool, defined at fs/overlayfs/Kconfig:\d+\n"),
        (
            "OVERLAY_FS_INDEX",
            r"depends on OVERLAY_FS \[=n\]: unmet\n      OVERLAY_FS=n \(fs/overlayfs/Kconfig:",
        ),
        ("EXT4_FS_POSIX_ACL", r"type mismatch: bool takes y or n, not m \(it cannot be a module\)"),
        ("NR_CPUS", r"out of range: 4096 is not within 2 to 512"),
        ("KERNEL_XZ", r'the choice "Kernel compression mode" holds KERNEL_LZO \(asked at .*my\.config:8\)'),
        ("EXT4_FS", r"got y\n.*\n    raised by select from EXT3_FS \[=y\]"),
        (
            "9P_FS",
            r"got m\n.*\n    depends on NET_9P \[=m\]: allows only m\n      NET_9P=m .*, asked m at .*:12",
        ),
        ("VIRTIO", r"no prompt: it cannot be set by hand"),
        ("VIRTIO", r"would be selected by VIRTIO_PCI \[=n\] &&"),
        ("DEFAULT_HOSTNAME", r"type mismatch: string takes a text in quotes, not y"),
    ],
)
def test_a_line_without_effect_is_explained(
    explanation: tuple[Path, dict[str, str]], symbol: str, said: str
) -> None:
    assert re.search(said, explanation[1][symbol]), explanation[1][symbol]


def test_lines_that_hold_are_not_complained_about(explanation: tuple[Path, dict[str, str]]) -> None:
    held = {"KERNEL_LZO", "EXT3_FS", "NETWORK_FILESYSTEMS", "NET_9P", "EXT4_FS_SECURITY", "KERNEL_GZIP"}
    assert not held & set(explanation[1])
    assert len(explanation[1]) == 11


def test_positions_are_those_of_the_definitions(explanation: tuple[Path, dict[str, str]]) -> None:
    tree, blocks = explanation
    found = re.findall(r"(\w+)=\w+ \((\S+):(\d+)\)", "".join(blocks.values()))
    assert ("OVERLAY_FS", "fs/overlayfs/Kconfig") in {(symbol, file) for symbol, file, _ in found}
    for symbol, file, line in found:
        text = (tree / file).read_text().splitlines()[int(line) - 1]
        assert text.split() in (["config", symbol], ["menuconfig", symbol])


def test_a_fragment_may_choose_another_member_than_the_base(
    small: Callable[..., Settings], any_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(any_tree, "CONFIG_KERNEL_XZ=y\n")
    configure(settings)
    assert "CONFIG_KERNEL_XZ=y\n" in settings.paths.config.read_text()
    lines = report(settings, capsys)
    assert re.search(r"CONFIG_KERNEL_GZIP=y .*overridden at .*/my\.config:1\n", lines)
    assert "~" not in (settings.paths.config.parent / "diff.txt").read_text()


def test_a_base_line_that_needs_a_fragment_takes_effect(
    small: Callable[..., Settings], any_tree: Path
) -> None:
    settings = small(any_tree, "CONFIG_EXT4_FS=y\n")
    with (settings.paths.output.parent / CHECKOUT_NAME / "base").open("a") as stream:
        stream.write("CONFIG_EXT4_FS_SECURITY=y\n")
    configure(settings)
    assert "CONFIG_EXT4_FS_SECURITY=y\n" in settings.paths.config.read_text()


def test_a_failing_run_leaves_the_last_good_files(small: Callable[..., Settings], apt_tree: Path) -> None:
    settings = small(apt_tree, "CONFIG_EXT4_FS=y\n")
    configure(settings)
    files = ("base.config", "config", "diff.txt")
    before = {name: settings.paths.config.with_name(name).read_bytes() for name in files}
    (settings.paths.output.parent / "my.config").write_text("CONFIG_EXT4_FS_SECURITY=y\n")
    with pytest.raises(UserError, match="did not take effect") as caught:
        configure(settings)
    assert "depends on EXT4_FS [=n]: unmet" in caught.value.detail
    assert {name: settings.paths.config.with_name(name).read_bytes() for name in files} == before
    assert sorted(path.name for path in settings.paths.config.parent.iterdir()) == [".build", *files]


def test_conf_is_compiled_again_if_its_own_source_is_another(
    small: Callable[..., Settings], apt_tree: Path, tmp_path: Path
) -> None:
    """An edited Kconfig file leaves it as it is; files of an unpacked tree may be older than it is."""
    settings = small(apt_tree, "CONFIG_EXT4_FS=y\n")
    settings.paths.linux.unlink()
    tree = kconfig_part(apt_tree, tmp_path / "mine")
    own = dataclasses.replace(settings.profile.kernel, source=FileSource(path=str(tree)))
    settings = with_values(settings, profile=dataclasses.replace(settings.profile, kernel=own))
    conf = settings.paths.config.with_name(".build") / "scripts/kconfig/conf"

    def compiled() -> int:
        source_tree.prepare(settings)
        kconfig.complete_base(settings)
        return conf.stat().st_mtime_ns

    first = compiled()
    with (tree / "init/Kconfig").open("a") as stream:
        stream.write("\nconfig OF_MINE\n\tdef_bool y\n")
    assert compiled() == first
    assert "CONFIG_OF_MINE=y\n" in settings.paths.base_config.read_text()
    with (tree / "scripts/kconfig/conf.c").open("a") as stream:
        stream.write('\nconst char of_mine[] = "of mine";\n')
    edited = compiled()
    assert edited != first
    assert b"of mine" in conf.read_bytes()
    assert compiled() == edited
    tree_state.forget_objects(settings.paths)
    assert compiled() != edited


def test_conf_is_taken_from_beside_the_tree_that_was_copied(
    small: Callable[..., Settings], apt_tree: Path, tmp_path: Path
) -> None:
    first = small(apt_tree, "CONFIG_EXT4_FS=y\n")
    first.paths.linux.unlink()
    shutil.copytree(apt_tree, first.paths.linux, symlinks=True)
    (first.paths.linux / STAMP).parent.mkdir()
    (first.paths.linux / STAMP).write_text("linux.tar 1\n")
    kconfig.complete_base(first)
    first.paths.build.mkdir()
    mark = first.paths.build / FINISHED
    mark.touch()

    def completed(name: str) -> str:
        """Complete the base config by a copy of the tree, and return the log."""
        copy = with_values(first, output=tmp_path / name)
        shutil.copytree(first.paths.linux, copy.paths.linux, symlinks=True)
        known = {"build": str(first.paths.build), "finished": mark.stat().st_mtime_ns}
        (copy.paths.linux / nearest_tree.COPIED).write_text(json.dumps(known))
        copy.paths.config.parent.mkdir()
        kconfig.complete_base(copy)
        assert copy.paths.base_config.read_bytes() == first.paths.base_config.read_bytes()
        engine = copy.paths.config.with_name(".build")
        texts = [path.read_text() for path in engine.rglob(".*") if path.is_file()]
        assert texts and not [text for text in texts if str(first.paths.output) in text]
        return (copy.paths.logs / "kconfig-base.log").read_text()

    assert "scripts/kconfig/conf.o" not in completed("taken")
    kconfig.complete_base(first)
    assert "HOSTCC  scripts/kconfig/conf.o" in completed("later"), "its tree may be another since"
    stamp = first.paths.config.with_name(".build") / CONF_STAMP
    stamp.write_text("of another toolchain")
    mark.touch()
    assert "HOSTCC  scripts/kconfig/conf.o" in completed("another")
    stamp.unlink()
    assert "HOSTCC  scripts/kconfig/conf.o" in completed("used")


def test_a_config_made_elsewhere_is_a_base(apt_tree: Path, tmp_path: Path) -> None:
    base = tmp_path / "config-5.4.3"
    base.write_text(
        'CONFIG_CC_VERSION_TEXT="gcc (GCC) 9.2.0"\nCONFIG_GCC_VERSION=90200\n'
        + BASE.replace("GZIP", "XZ")
        + "CONFIG_LOGO_TINYCORE_CLUT224=y\nCONFIG_EXT4_FS=m\nCONFIG_LOCALVERSION_AUTO=y\n"
    )
    settings = make(apt_tree, tmp_path / "out", base=base, mode="olddefconfig")
    (tmp_path / "my.config").write_text("CONFIG_MISC_FILESYSTEMS=y\nCONFIG_SQUASHFS=y\nCONFIG_TMPFS=y\n")
    settings = with_values(settings, fragments=(str(tmp_path / "my.config"), "ext3-xattr"))
    configure(settings)
    diff = (settings.paths.config.parent / "diff.txt").read_text()
    asked, followed, base_part = re.split(r"\n# .*\n", diff)
    assert "- CONFIG_LOCALVERSION_AUTO=y  (tcbuild" in asked
    assert "~ CONFIG_EXT4_FS=m -> y\n" in followed
    assert "- CONFIG_LOGO_TINYCORE_CLUT224=y\n" in base_part
    assert not re.search(r"CONFIG_(CC|GCC|LD)_VERSION", base_part)
    assert "CONFIG_KERNEL_XZ=y\n" in settings.paths.config.read_text()


def test_the_boot_logo_is_said_to_be_missing_from_kernel_orgs_source(
    apt_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "config-5.4.3"
    base.write_text(BASE + "CONFIG_LOGO_TINYCORE_CLUT224=y\n")
    settings = make(apt_tree, tmp_path / "out", base=base, mode="olddefconfig")
    kernel = dataclasses.replace(settings.profile.kernel, source=KernelOrgSource(version="5.4.3"))
    for name, said in (("11.x", True), ("", False)):
        made = dataclasses.replace(settings.profile, kernel=kernel, release=name)
        kconfig.complete_base(dataclasses.replace(settings, profile=made))
        line = (
            "kconfig: kernel.org's Linux 5.4.3 has no LOGO_TINYCORE_CLUT224, which the config of Tiny Core 11"
        )
        assert (line in capsys.readouterr().out) == said


def test_a_base_that_is_no_config_is_refused(apt_tree: Path, tmp_path: Path) -> None:
    base = tmp_path / "config"
    base.write_text("<html>404 Not Found</html>\n")
    settings = make(apt_tree, tmp_path / "out", "qemu", base=base, mode="olddefconfig")
    with pytest.raises(UserError, match="not a kernel config"):
        configure(settings)


def test_the_release_is_known_before_the_compile_and_does_not_depend_on_git(
    any_tree: Path, tmp_path: Path
) -> None:
    """Neither on a checkout around the tree, as ours is around artifacts/, nor on one of the tree."""
    checkout = tmp_path / "checkout"
    settings = make(any_tree, checkout / "artifacts" / "apt", base=tmp_path / "base")
    settings.paths.linux.unlink()
    shutil.copytree(any_tree, settings.paths.linux, symlinks=True)
    (tmp_path / "base").write_text(BASE)
    (tmp_path / "my.config").write_text('CONFIG_LOCALVERSION="-mine"\n')
    (settings.paths.linux / "localversion-10rt").write_text("-rt4\n")
    settings = with_values(settings, fragments=(str(tmp_path / "my.config"),))
    with pytest.raises(UserError, match=r"'6\.6\.6-mine', but the kernel's is '[\d.]+-rt4-mine'") as caught:
        configure(declaring(settings, "6.6.6-mine"))
    assert not settings.paths.config.exists(), "it is told before the compile"
    coming = caught.value.message.split("'")[-2]
    configure(declaring(settings, coming))
    settings.paths.build.mkdir()
    shutil.copy(settings.paths.config, settings.paths.build / ".config")
    for top in (checkout, settings.paths.linux):
        for command in (
            ["init", "-q"],
            ["add", "-f", "Makefile" if top == settings.paths.linux else "artifacts/apt/kconfig"],
            ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "t"],
        ):
            subprocess.run(["git", *command], cwd=top, check=True)
        assert release(settings) == coming
    plain = [
        "make",
        "-s",
        "-C",
        str(settings.paths.linux),
        f"O={settings.paths.build}",
        "ARCH=x86_64",
        "kernelrelease",
    ]
    said = subprocess.run(plain, check=True, capture_output=True, text=True).stdout.strip()
    assert said.endswith("-mine+"), "the trap this is about is gone"


def test_a_new_config_is_seen_by_the_release(small: Callable[..., Settings], apt_tree: Path) -> None:
    settings = small(apt_tree, 'CONFIG_LOCALVERSION="-one"\n')
    configure(settings)
    settings.paths.build.mkdir()
    (settings.paths.build / ".config").write_bytes(settings.paths.config.read_bytes())
    assert release(settings).endswith("-one")
    changed = settings.paths.config.read_text().replace("-one", "-two")
    (settings.paths.build / ".config").write_text(changed)
    assert release(settings).endswith("-two")


def test_tiny_core_differs_by_the_fragments_and_their_selects_alone(tree_54: Path, tmp_path: Path) -> None:
    named = os.environ.get("TCBUILD_TC_CONFIG")
    if not named:
        pytest.skip("TCBUILD_TC_CONFIG names no config of Tiny Core's kernel 5.4.3")
    settings = make(
        tree_54, tmp_path / "out", "ext3-xattr", "containers", base=Path(named), mode="olddefconfig"
    )
    configure(settings)
    diff = (settings.paths.config.parent / "diff.txt").read_text()
    asked, followed, base_part = re.split(r"\n# .*\n", diff)
    lines = {
        found.symbol
        for name in settings.profile.kernel.fragments
        for found in read_fragment(CHECKOUT.kconfig / f"{name}.config")
    }
    assert set(re.findall(r"CONFIG_(\w+)=", asked)) <= lines
    assert re.findall(r"CONFIG_(\w+)=", followed) == [
        "CGROUP_WRITEBACK",
        "EXT4_FS_POSIX_ACL",
        "EXT4_FS_SECURITY",
        "MEMCG_KMEM",
        "OVERLAY_FS_REDIRECT_ALWAYS_FOLLOW",
        "PAGE_COUNTER",
    ]
    assert base_part == "- CONFIG_LOGO_TINYCORE_CLUT224=y\n"
    assert "+ CONFIG_EXT3_FS_SECURITY=y" in asked
    assert "+ CONFIG_OVERLAY_FS=m" in asked
