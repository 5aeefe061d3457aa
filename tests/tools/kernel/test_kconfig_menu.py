# SPDX-License-Identifier: MIT
"""The commands about a configuration, on one configured tree: the menus, and what they share.

The base config is Tiny Core's, cut down; TCBUILD_TC_CONFIG names the whole one.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.config.settings import Paths, Settings
from tasks.fetch import toolchain
from tasks.kernel import (
    kconfig,
    kconfig_draft,
    kconfig_explain,
    kconfig_import,
    kconfig_menu,
    kconfig_minimise,
    kconfig_search,
)
from tasks.kernel.fragments import Request, apply_requests, config_line, parse_config, read_fragment
from tasks.kernel.kconfig_workspace import Workspace, workspace
from tasks.kernel.requests import implied_requests, profile_requests
from tasks.origins.sources.file import FileSource
from tasks.toolchain import build_root, host_match
from tasks.util.checkout import CHECKOUT, cache_folder
from tasks.util.errors import UserError
from tests.support.settings import with_values
from tests.support.terminal import Terminal

CUT = CHECKOUT.root / "tests/data/tinycore-cut.config"
SEED = 20
SPDX = "# SPDX-License-Identifier: MIT\n"
RUN = """
import pickle, sys
from pathlib import Path
from tasks.kernel import kconfig_menu
from tasks.toolchain import host_match
from tasks.util.checkout import CHECKOUT

host_match.difference = lambda root, locked: ""
CHECKOUT.kconfig = Path(sys.argv[2])
kconfig_menu.menu(pickle.loads(Path(sys.argv[1]).read_bytes()), ["mine"], program=sys.argv[3])
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    """This machine's programs stand in for the toolchain: no bytes are compared with another machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_match, "difference", lambda root, locked: "")
        yield


@pytest.fixture(scope="module")
def configured(apt_tree: Path, machine: None, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A profile without fragments whose base is Tiny Core's config, configured."""
    loaded = profile.load("apt")
    output = tmp_path_factory.mktemp("configured") / "out"
    output.mkdir()
    (output / "linux").symlink_to(apt_tree)
    base = FileSource(path=os.environ.get("TCBUILD_TC_CONFIG", str(CUT)))
    kernel = replace(loaded.kernel, base=base, base_mode="olddefconfig", localversion="", fragments=())
    settings = Settings(Paths("apt", output, cache_folder()), replace(loaded, kernel=kernel))
    kconfig.complete_base(settings)
    kconfig.merge(settings)
    return settings


@pytest.fixture
def fragments(configured: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the fragments, in place of the checkout's.  A test may configure anew with them."""
    before = configured.paths.config.read_text()
    folder = tmp_path / "kconfig"
    folder.mkdir()
    for name in ("notes.toml", "explain.c", "menus.h", "minimise.c"):
        (folder / name).symlink_to(CHECKOUT.kconfig / name)
    monkeypatch.setattr(CHECKOUT, "kconfig", folder)
    yield folder
    configured.paths.config.write_text(before)


def with_lines(settings: Settings, folder: Path, **texts: str) -> Settings:
    """Return the settings with fragments of these names and texts."""
    for name, text in texts.items():
        (folder / f"{name}.config").write_text(text)
    return with_values(settings, fragments=tuple(texts))


def changed_to(space: Workspace, text: str, values: dict[str, str]) -> str:
    """Return the config that the tree's own `conf` makes of `text` with other values, as a menu would."""
    return space.complete(apply_requests(text, [Request(*pair, "menu") for pair in values.items()]))


def flipped(values: dict[str, str], names: list[str]) -> dict[str, str]:
    return {name: "m" if values[name] == "n" else "n" for name in names}


def random_changes(space: Workspace, settings: Settings, count: int) -> dict[str, str]:
    """Return symbol -> value for symbols chosen by lot, all of which can be changed together."""
    text = kconfig.merged_text(settings, implied_requests(settings.paths, settings.profile))
    before = parse_config(settings.paths.config.read_text())
    drawn = random.Random(SEED).sample(sorted(before), 5 * count)
    (space.work / "config").write_text(settings.paths.config.read_text())
    known, _names = kconfig_explain.ask(space, "config", drawn)
    # In a menu nobody turns off a member of a choice: one turns on another.
    chosen = [
        name
        for name in drawn
        if known[name].type in ("bool", "tristate") and known[name].limit != "n" and not known[name].choice
    ]
    after = parse_config(changed_to(space, text, flipped(before, chosen)))
    took = [name for name in chosen if before[name] != after.get(name, "n")]
    assert len(took) >= count, "draw more"
    return flipped(before, took[:count])


def fragment_of(settings: Settings, space: Workspace, values: dict[str, str]) -> tuple[str, str]:
    """Do what a menu does in which `values` are chosen; return the fragment's text and the config."""
    before = kconfig.merge_requests(space, settings, profile_requests(settings.paths, settings.profile))
    goal = changed_to(space, before.text, values)
    draft = kconfig_draft.of_name(settings, ["mine"], "kconfig:menu")
    kconfig_draft.write(space, settings, draft, before, goal)
    return draft.path.read_text(), goal


def gives(settings: Settings, space: Workspace) -> str:
    """Return the config of the base and the fragment alone."""
    alone = with_values(settings, fragments=("mine",))
    requests = profile_requests(alone.paths, alone.profile)
    return kconfig.prove(space, kconfig.merge_requests(space, alone, requests)).config


def test_20_random_changes_become_their_lines_and_no_others(
    configured: Settings, fragments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = parse_config(configured.paths.config.read_text())
    with workspace(configured, "menu") as space:
        chosen = random_changes(space, configured, 20)
        _text, goal = fragment_of(configured, space, chosen)
        assert gives(configured, space) == goal
    after = parse_config(goal)
    lines = {one.symbol: one.value for one in read_fragment(fragments / "mine.config")}
    assert set(lines) <= set(chosen), "what follows is no line"
    # One that is missing had followed from another: else the config would differ.
    assert len(lines) > 12
    followed = [name for name in {**before, **after} if before.get(name, "n") != after.get(name, "n")]
    said = capsys.readouterr().out
    asked, _, rest = said.partition("# followed by itself")
    assert all(re.search(rf"^[-+~] CONFIG_{name}=", asked, re.MULTILINE) for name in lines)
    assert bool(rest) == bool(set(followed) - set(lines))


@pytest.mark.slow
def test_each_of_20_random_changes_alone_becomes_one_line(configured: Settings, fragments: Path) -> None:
    with workspace(configured, "menu") as space:
        for name, value in random_changes(space, configured, 20).items():
            text, goal = fragment_of(configured, space, {name: value})
            final = parse_config(goal).get(name, "n")  # a bool becomes y
            assert text == f"{SPDX}{config_line(name, final)}\n"
            assert gives(configured, space) == goal
            (fragments / "mine.config").unlink()


@pytest.mark.parametrize(
    ("program", "keys", "off"),
    [
        ("nconfig", ["/", "Networking", "\x1b", "n", "9", "\r", "\r"], "NET"),
        ("menuconfig", ["E", "n", "\x1b\x1b", "\r"], "MODULES"),
    ],
)
def test_what_is_turned_off_in_the_real_menu_becomes_one_line(
    configured: Settings, fragments: Path, tmp_path: Path, program: str, keys: list[str], off: str
) -> None:
    """Many symbols change with it; the fragment says one thing."""
    settings = configured
    toolchain.fetch_alone(settings, kconfig_menu.ROOT)
    build_root.ensure(settings.paths.cache, kconfig_menu.ROOT)
    (tmp_path / "settings").write_bytes(pickle.dumps(settings))
    argv = [sys.executable, "-c", RUN, str(tmp_path / "settings"), str(fragments), program]
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(CHECKOUT.root)}
    with Terminal(argv, cwd=CHECKOUT.root, env=env, limit=1200) as terminal:
        terminal.expect("Networking support")
        for key in keys:
            terminal.type(key)
            terminal.settle()
        status, said = terminal.end()
    assert status == 0, said[-3000:]
    assert (fragments / "mine.config").read_text() == f"{SPDX}# CONFIG_{off} is not set\n"
    told = said[said.index("# asked for") :]
    assert told.startswith("# asked for, in")
    assert f"- CONFIG_{off}=y\n# followed by itself" in told
    assert len(re.findall(r"^[-+~] CONFIG_", told, re.MULTILINE)) > 3
    assert "proved, it gives the configuration that was asked for" in told
    assert 'add "mine" to kernel.fragments' in told


def test_without_a_terminal_the_menu_says_what_to_do(configured: Settings) -> None:
    with pytest.raises(UserError, match="needs a terminal"):
        kconfig_menu.menu(configured, ["mine"])


def test_an_edited_fragment_overrides_others_and_says_what_is_redundant(
    configured: Settings, fragments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = "# Disks.\nCONFIG_MD=y\nCONFIG_BLK_DEV_DM=m\nCONFIG_DM_CRYPT=m\nCONFIG_CRYPTO_CBC=m\n"
    settings = with_lines(
        configured, fragments, other="CONFIG_BTRFS_FS=m\nCONFIG_BTRFS_FS_POSIX_ACL=y\n", mine=mine
    )
    with workspace(settings, "menu") as space:
        text, _goal = fragment_of(settings, space, {"BTRFS_FS": "n", "DM_CRYPT": "n"})
    # A line of the fragment itself goes.  One of another fragment is overridden, and so is one that fell
    # with it.
    assert text == (
        "# Disks.\nCONFIG_MD=y\nCONFIG_BLK_DEV_DM=m\nCONFIG_CRYPTO_CBC=m\n"
        "# override\n# CONFIG_BTRFS_FS is not set\n"
        "# override\n# CONFIG_BTRFS_FS_POSIX_ACL is not set\n"
    )
    said = capsys.readouterr().out
    assert "- CONFIG_BTRFS_FS=m\n" in said.split("# followed")[0]
    assert "- CONFIG_DM_CRYPT=m\n" in said.split("# followed")[0]
    assert "- CONFIG_RAID6_PQ=m\n" in said.split("# followed")[1]
    assert "# override a line of an earlier fragment\n" in said
    kconfig.merge(settings)
    kconfig.print_report(settings)
    report = capsys.readouterr().out
    assert re.search(r"other\.config:1 .*overridden at .*mine\.config:6\n", report)
    assert "# redundant" not in said, "without them, lines of the other would not hold"


def test_minimise_names_and_removes_redundant_lines(
    configured: Settings, fragments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_lines(
        configured,
        fragments,
        other="CONFIG_BTRFS_FS=m\nCONFIG_SQUASHFS=y\n",
        mine="# Why.\nCONFIG_SQUASHFS=y\nCONFIG_XFS_FS=m\nCONFIG_LIBCRC32C=m\n"
        "# override\n# CONFIG_BTRFS_FS is not set\n",
    )
    kconfig_minimise.minimise(settings, ["mine"])
    said = capsys.readouterr().out
    assert re.findall(r"mine\.config:(\d+): .*  \((\w+)", said) == [("2", "also"), ("4", "follows")]
    assert "2 of 4 lines can be removed: --write removes them" in said
    kconfig_minimise.minimise(settings, ["mine"], write=True)
    left = "# Why.\nCONFIG_XFS_FS=m\n# override\n# CONFIG_BTRFS_FS is not set\n"
    assert (fragments / "mine.config").read_text() == left
    with pytest.raises(UserError, match="takes one fragment"):
        kconfig_minimise.minimise(settings, [])


def test_search_and_why_tell_what_sets_a_symbol(
    configured: Settings, fragments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_lines(configured, fragments, mine="CONFIG_BTRFS_FS=m\n")
    kconfig.merge(settings)
    capsys.readouterr()
    kconfig_search.search(settings, ["btrfs", "copy-on-write"])
    said = capsys.readouterr().out
    assert said.startswith('BTRFS_FS [=m]  tristate, "Btrfs filesystem support"\n')
    assert re.search(r"^    defined at fs/btrfs/Kconfig:\d+$", said, re.MULTILINE)
    assert re.search(r"^    depends on BLOCK \[=y\]", said, re.MULTILINE)
    assert re.search(r"^    asked at .*mine\.config:1: CONFIG_BTRFS_FS=m$", said, re.MULTILINE)
    assert "        Btrfs is a general purpose copy-on-write filesystem" in said
    kconfig_search.why(settings, ["CONFIG_RAID6_PQ", "BTRFS_FS_POSIX_ACL"])
    said = capsys.readouterr().out
    assert re.match(
        r"RAID6_PQ=m  tristate, defined at lib/Kconfig:\d+\n"
        r"    selected by BTRFS_FS \[=m\].*\n"
        r"    BTRFS_FS=m\n"
        r"        asked at .*mine\.config:1: CONFIG_BTRFS_FS=m\n",
        said,
    ), said
    with pytest.raises(UserError, match="no symbol BTRFS_FSS") as caught:
        kconfig_search.why(settings, ["BTRFS_FSS"])
    assert "BTRFS_FS" in caught.value.hint
    with pytest.raises(UserError, match="no symbol of this kernel has nosuchword"):
        kconfig_search.search(settings, ["nosuchword"])


def test_a_whole_config_becomes_a_fragment_of_the_base(
    configured: Settings,
    fragments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with workspace(configured, "import") as space:
        values = {"BTRFS_FS": "m", "NET": "n", "DEFAULT_HOSTNAME": '"box"'}
        whole = changed_to(space, configured.paths.config.read_text(), values)
    monkeypatch.setenv("TCBUILD_CWD", str(tmp_path))
    (tmp_path / "Box.config").write_text(f"{whole}CONFIG_EXT3_FS_XATTR=y\n")
    kconfig_import.import_config(configured, ["Box.config"])
    said = capsys.readouterr().out
    assert "# this kernel does not know 1 symbols of the file\n- CONFIG_EXT3_FS_XATTR=y  (has not" in said
    assert 'kernel.fragments = ["box"] gives this config' in said
    asked = {one.symbol: one.value for one in read_fragment(fragments / "box.config")}
    assert asked == values
    with pytest.raises(UserError, match=r"box\.config exists"):
        kconfig_import.import_config(configured, ["Box.config"])
    (tmp_path / "page").write_text("<html>\n")
    with pytest.raises(UserError, match="not a kernel config"):
        kconfig_import.import_config(configured, ["page", "mine"])


def test_local_turns_off_what_is_not_loaded_and_not_asked_for(
    configured: Settings, fragments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_lines(
        configured, fragments, other="CONFIG_BTRFS_FS=m\nCONFIG_XFS_FS=m\nCONFIG_DUMMY=m\nCONFIG_TUN=m\n"
    )
    monkeypatch.setenv("TCBUILD_CWD", str(tmp_path))
    (tmp_path / "guest").write_text("Module                  Size  Used by\nisofs 49152 0\nloop 40960 2\n")
    before = parse_config(settings.paths.config.read_text())
    kconfig_import.local(settings, ["small"], lsmod="guest")
    asked = {one.symbol: one.value for one in read_fragment(fragments / "small.config")}
    assert set(asked.values()) == {"n"}
    modules = {name for name, value in before.items() if value == "m"}
    assert modules & set(asked)
    assert not {"ISO9660_FS", "BLK_DEV_LOOP", "BTRFS_FS", "XFS_FS", "DUMMY", "TUN"} & set(asked)
