# SPDX-License-Identifier: MIT
"""Profiles on top of other profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config import inheritance, profile
from tasks.config.check import Check
from tasks.config.settings import Paths
from tasks.origins.lock import Lock, LockedPackage
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.profiles import MINIMAL
from tests.unit.config.test_profile import checkout

__all__ = ["checkout"]  # a fixture

EXTENSIONS = """
[[extensions]]
name = "a"
[[extensions]]
name = "b"
"""


@pytest.fixture
def profiles(checkout: Path) -> Path:
    folder = checkout / "profiles"
    (folder / "mine.toml").write_text(MINIMAL + EXTENSIONS)
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.toml").write_text(text)


def test_tables_are_merged_and_extensions_added(profiles: Path) -> None:
    text = (
        'inherit = "mine"\n[kernel]\nlocalversion = "-x"\nfragments = ["three"]\n[system]\nhostname = "hut"\n'
    )
    text += '[[extensions]]\nname = "c"\n[[extensions]]\nname = "a"\nplace = "ondemand"\n'
    write(profiles, "top", text)
    made, below = profile.load("top"), profile.load("mine")
    assert [(item.name, item.place) for item in made.extensions] == [
        ("a", "ondemand"),
        ("b", "onboot"),
        ("c", "onboot"),
    ]
    assert made.kernel.localversion == "-x"
    assert made.kernel.fragments == ("three",)
    assert made.kernel.source == below.kernel.source
    assert made.system.hostname == "hut"
    assert made.boot == below.boot
    assert [item.name for item in below.extensions] == ["a", "b"]


CHECK = '[[check]]\nname = "c"\ncommand = "x"\ntimeout = 5\n'


def test_checks_are_added_replaced_and_switched_off_by_name(profiles: Path) -> None:
    """One that is off keeps what was inherited; one that comes again is the new one alone."""
    write(profiles, "below", 'inherit = "mine"\n' + CHECK + '[[check]]\nname = "d"\ncommand = "y"\n')
    top = '[[check]]\nname = "d"\ncommand = "z"\n[[check]]\nname = "e"\nscript = "s"\n'
    write(profiles, "top", 'inherit = "below"\n[[check]]\nname = "c"\noff = true\n' + top)
    assert profile.load("top").check == (
        Check("c", off=True, command="x", timeout=5),
        Check("d", command="z"),
        Check("e", script="s"),
    )
    assert [check.name for check in profile.load("below").check] == ["c", "d"]


@pytest.mark.parametrize("key", ["extensions", "check"])
def test_a_name_that_comes_twice_is_refused(profiles: Path, key: str) -> None:
    """Also if it is inherited: the second would replace the first without a word."""
    twice = f'[[{key}]]\nname = "a"\ncommand = "x"\n' * 2
    write(profiles, "top", 'inherit = "mine"\n' + twice)
    with pytest.raises(UserError, match=rf"top.toml: {key}\[1\]: 'a' is named twice"):
        profile.load("top")


def test_a_profile_may_inherit_from_one_that_inherits(profiles: Path) -> None:
    write(profiles, "middle", 'inherit = "mine"\ndescription = "middle"\n[[extensions]]\nname = "c"\n')
    write(profiles, "top", 'inherit = "middle"\n[[extensions]]\nname = "d"\n')
    made = profile.load("top")
    assert made.description == "middle"
    assert [item.name for item in made.extensions] == ["a", "b", "c", "d"]
    files = variables.resolve({"profile": "top"}, profiles / "artifacts").paths.profile_files
    assert [path.stem for path in files] == ["top", "middle", "mine"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('inherit = "nowhere"\n', r"top.toml: inherit: there is no profile 'nowhere'"),
        ('inherit = "top"\n', r"top.toml: inherit: .*circle: top -> top"),
        ('inherit = "ring"\n', r"ring.toml: inherit: .*circle: top -> ring -> top"),
        ('inherit = ["mine"]\n', r"top.toml: inherit: expected a string"),
        ('inherit = "mine"\n[kernal]\n', r"top.toml: unknown key 'kernal'"),
        ('inherit = "mine"\n[kernel]\nbase_mode = "x"\n', r"top.toml: kernel.base_mode"),
        ('inherit = "mine"\nextensions = "a"\n', r"top.toml: extensions: expected an array"),
        ('inherit = "mine"\nextensions = ["a"]\n', r"top.toml: extensions\[0\]: expected a table"),
        ('inherit = "mine"\nkernel = "x"\n', r"top.toml: kernel: expected a table"),
        ('inherit = "broken"\n', r"broken.toml: missing key 'description'"),
    ],
)
def test_mistakes_are_told_of_the_file_they_stand_in(profiles: Path, text: str, words: str) -> None:
    write(profiles, "ring", 'inherit = "top"\n')
    write(profiles, "broken", MINIMAL.replace("description", "# description"))
    write(profiles, "top", text)
    with pytest.raises(UserError, match=words) as caught:
        profile.load("top")
    if "nowhere" in text:
        assert caught.value.hint == "profiles: broken, mine, ring, top"


def test_an_inherited_lock_counts_until_there_is_an_own_one(profiles: Path) -> None:
    write(profiles, "top", 'inherit = "mine"\n')
    settings = variables.resolve({"profile": "top"}, profiles / "artifacts")
    assert settings.paths.pinned_lock == profiles / "mine.lock.toml"
    assert settings.paths.own_lock == profiles / "top.lock.toml"
    settings.paths.own_lock.write_text(Lock((LockedPackage("p", "1", "0" * 64),)).to_toml())
    assert settings.paths.pinned_lock == settings.paths.own_lock
    (profiles / "mine.lock.toml").unlink()
    settings.paths.own_lock.unlink()
    assert settings.paths.pinned_lock == settings.paths.own_lock


def test_the_lock_of_another_architecture_is_not_inherited(profiles: Path) -> None:
    """It holds other packages.  A profile above it inherits its lock, and none from below."""
    write(profiles, "small", 'inherit = "mine"\narch = "x86"\n')
    write(profiles, "smaller", 'inherit = "small"\n')
    write(profiles, "same", 'inherit = "mine"\narch = "x86_64"\n')
    small, smaller, same = (
        variables.resolve({"profile": name}, profiles / "artifacts").paths
        for name in ("small", "smaller", "same")
    )
    assert same.pinned_lock == profiles / "mine.lock.toml"
    assert (small.pinned_lock, smaller.pinned_lock) == (small.own_lock, smaller.own_lock)
    small.own_lock.write_text("")
    assert smaller.pinned_lock == small.own_lock


def test_merging_leaves_what_is_below_alone() -> None:
    below = {"kernel": {"a": 1}, "extensions": [{"name": "a"}]}
    inheritance.merged(below, {"kernel": {"a": 2}, "extensions": [{"name": "b"}]})
    assert below == {"kernel": {"a": 1}, "extensions": [{"name": "a"}]}


def test_a_table_of_another_kind_replaces_the_inherited_one() -> None:
    below = {"kernel": {"source": {"kind": "apt", "package": "linux-source"}, "patches": "p"}}
    above = {"kernel": {"source": {"kind": "file", "path": "linux"}}}
    expected = {"source": {"kind": "file", "path": "linux"}, "patches": "p"}
    assert inheritance.merged(below, above)["kernel"] == expected
    same = {"kernel": {"source": {"package": "linux-source-6.1"}}}
    assert inheritance.merged(below, same)["kernel"]["source"] == {
        "kind": "apt",
        "package": "linux-source-6.1",
    }


def test_the_profile_that_was_imported_is_known_to_its_heirs(profiles: Path) -> None:
    """Only that one can be imported again."""
    write(profiles, "mine", f'imported = "my.iso"\n{MINIMAL}')
    write(profiles, "heir", 'inherit = "mine"\n')
    for name, expected in (("heir", "mine"), ("mine", "mine"), ("gone", "gone")):
        assert Paths(name, profiles, profiles).imported_name == expected


@pytest.fixture
def tree(profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree beside the checkout; the folder of its profiles."""
    folder = tmp_path / "tree/profiles"
    folder.mkdir(parents=True)
    monkeypatch.setattr(CHECKOUT, "trees", (folder.parent,))
    return folder


def test_a_profile_of_a_tree_inherits_one_of_the_checkout(profiles: Path, tree: Path) -> None:
    write(tree, "own", 'inherit = "mine"\ntcbuild = "v1.2"\ndescription = "own"\n')
    made = profile.load("own")
    assert (made.description, made.tcbuild, made.kernel.fragments) == ("own", "v1.2", ("one", "two"))
    assert profile.names() == ["mine", "own"]
    paths = Paths("own", tmp := tree.parent / "out", tmp)
    assert paths.profile_files == [tree / "own.toml", profiles / "mine.toml"]
    assert (paths.pinned_lock, paths.own_lock) == (profiles / "mine.lock.toml", tree / "own.lock.toml")


def test_a_profile_that_inherits_its_own_name_means_the_one_that_it_hides(profiles: Path, tree: Path) -> None:
    write(tree, "mine", 'inherit = "mine"\ndescription = "hides"\n')
    write(profiles, "heir", 'inherit = "mine"\n')
    assert (profile.load("mine").description, profile.load("mine").source_date_epoch) == ("hides", 1)
    assert profile.load("heir").description == "hides"
    write(profiles, "mine", 'inherit = "mine"\n')
    with pytest.raises(UserError, match="in a circle: mine -> mine"):
        profile.load("mine")


@pytest.mark.parametrize("text", ["-x", "a b", "$(x)"])
def test_a_pin_is_a_commit_or_a_tag(tree: Path, text: str) -> None:
    write(tree, "own", f'inherit = "mine"\ntcbuild = "{text}"\n')
    with pytest.raises(UserError, match="tcbuild: expected a commit or a tag of git"):
        profile.load("own")


def test_a_path_is_no_name_of_a_profile(tree: Path) -> None:
    for name, says in (
        ("/path/x.toml", "tree=DIR profile=x"),
        ("/path/profiles/x.toml", "tree=/path profile=x"),
    ):
        with pytest.raises(UserError, match="unknown profile") as caught:
            profile.load(name)
        assert says in caught.value.hint
