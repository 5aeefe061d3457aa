# SPDX-License-Identifier: MIT
"""Which extensions a profile is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.config import inheritance, plan, profile, recipe
from tasks.config.kernel_image import KernelImage
from tasks.config.profile import Extension, Kernel, Profile
from tasks.config.settings import Settings
from tasks.kernel import installed
from tasks.origins.lock import Lock, LockedExtension
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.profiles import RELEASE, locked, profile_maker, up


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Profile]:
    return profile_maker(tmp_path, monkeypatch)


def test_deps_come_first_and_once(make: Callable[..., Profile]) -> None:
    found = plan.plan(
        make(up("top"), up("left")), locked(top="left right", left="base", right="base", base="")
    )
    assert list(found.nodes) == ["base", "left", "right", "top"]
    assert found.closure(["right"]) == ["base", "right"]
    assert (found.loops, found.missing) == ((), {})


def test_circles_are_named_and_tolerated(
    make: Callable[..., Profile], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan.plan(make(up("a"), up("me")), locked(a="b", b="c", c="a", me="me"))
    assert sorted(found.nodes) == ["a", "b", "c", "me"]
    assert found.loops == ("a -> b -> c -> a", "me -> me")
    assert found.closure(["b"]) == ["c", "b", "a"]
    plan.log_loops(found)
    assert capsys.readouterr().out.splitlines() == [
        "warning: loop dependency a -> b -> c -> a; tce-load loads them anyway",
        "warning: loop dependency me -> me; tce-load loads them anyway",
    ]


def test_a_circle_of_recipes_alone_is_refused(make: Callable[..., Profile]) -> None:
    made = make(Extension("x"), recipes={"x": "y", "y": "x"})
    with pytest.raises(UserError, match="in a circle: x -> y -> x"):
        plan.plan(made, Lock())


def test_recipes_and_upstream_extensions_need_each_other(make: Callable[..., Profile]) -> None:
    made = make(Extension("mine"), recipes={"mine": "theirs", "also-mine": "mine"})
    found = plan.plan(made, locked(theirs="also-mine"))
    kinds = {name: node.kind for name, node in found.nodes.items()}
    assert kinds == {"also-mine": "recipe", "theirs": "upstream", "mine": "recipe"}
    assert found.loops == ("mine -> theirs -> also-mine -> mine",)


def test_what_no_lock_knows_is_missing_and_who_wants_it_is_said(make: Callable[..., Profile]) -> None:
    made = make(up("a"), up("b"), Extension("r"), recipes={"r": "c"})
    assert plan.plan(made, locked(a="d")).missing == {"d": "a.tcz", "b": "the profile", "c": "r.tcz"}


def test_an_imported_extension_is_never_built_by_a_recipe(make: Callable[..., Profile]) -> None:
    """Not even if the lock has lost it: a recipe of the name would be another extension."""
    made = make(Extension("mine", origin="imported"), recipes={"mine": ""})
    assert plan.plan(made, locked(mine="dep", dep="")).of_kind("upstream") == ["dep", "mine"]
    assert plan.plan(made, Lock()).missing == {"mine": "the profile"}


def test_a_recipe_stands_in_for_what_mirrors_lack(make: Callable[..., Profile]) -> None:
    """An upstream extension's needs are upstream; only what is not there is taken from a recipe."""
    made = make(up("a"), recipes={"dep": ""})
    lock = locked(a="dep")
    assert plan.plan(made, lock, absent=()).missing == {"dep": "a.tcz"}
    assert plan.plan(made, lock, absent={"dep"}).of_kind("recipe") == ["dep"]
    assert plan.plan(made, lock).of_kind("recipe") == ["dep"]
    assert plan.plan(made, locked(a="dep", dep="")).of_kind("recipe") == []


def test_the_profile_decides_between_a_recipe_and_the_mirrors(make: Callable[..., Profile]) -> None:
    made = make(up("a"), Extension("dep"), recipes={"dep": "", "a": ""})
    found = plan.plan(made, locked(a="dep", dep=""))
    assert (found.of_kind("recipe"), found.of_kind("upstream")) == (["dep"], ["a"])


def test_a_name_that_is_nowhere(make: Callable[..., Profile]) -> None:
    with pytest.raises(UserError, match="no recipe for extension 'lost'"):
        plan.plan(make(Extension("lost")), Lock())
    with pytest.raises(UserError, match="no recipe for extension 'lost'"):
        plan.plan(make(Extension("r"), recipes={"r": "lost"}, tcz=""), Lock())


class TestKernelModules:
    def test_groups_come_from_the_kernel_built_here(self, make: Callable[..., Profile]) -> None:
        found = plan.plan(make(up("a"), up("original-modules-KERNEL")), locked(a="ipv6-netfilter-KERNEL"))
        name = f"ipv6-netfilter-{RELEASE}"
        assert found.nodes["a"].deps == (name,)
        assert found.of_kind("modules") == [name, f"original-modules-{RELEASE}"]

    def test_in_the_core_there_is_nothing_to_load(self, make: Callable[..., Profile]) -> None:
        made = make(up("a"), up("original-modules-KERNEL", "ondemand"), modules="core")
        lock = locked(a="ipv6-netfilter-KERNEL b", b="")
        assert list(plan.plan(made, lock).nodes) == ["b", "a"]
        assert plan.extensions_at(made, "onboot", "ondemand") == ["a"]
        assert plan.dep_text(made, lock.extension[0].deps) == "b.tcz\n"
        assert plan.module_extensions(made) == []

    def test_others_are_upstream(self, make: Callable[..., Profile]) -> None:
        """Out-of-tree modules, which no kernel build makes."""
        lock = Lock(extension=(LockedExtension(f"zfs-{RELEASE}", "a" * 64, "b" * 32, 1),))
        for modules in ("split", "core"):
            made = make(up("zfs-KERNEL"), modules=modules)
            assert plan.plan(made, lock).of_kind("upstream") == [f"zfs-{RELEASE}"]
            assert plan.extensions_at(made, "onboot") == [f"zfs-{RELEASE}"]

    def test_a_release_nobody_declared(self, make: Callable[..., Profile]) -> None:
        made = make(up("zfs-KERNEL"))
        made = replace(made, kernel=replace(made.kernel, modules="core", release=""))
        with pytest.raises(UserError, match="zfs-KERNEL: the profile does not set") as caught:
            plan.plan(made, Lock())
        assert "kernel.release" in caught.value.hint

    @pytest.mark.parametrize(("declared", "ok"), [(RELEASE, True), ("", True), ("6.1", False)])
    def test_the_kernel_built_must_be_the_one_declared(
        self, make_settings: Callable[..., Settings], declared: str, ok: bool
    ) -> None:
        settings = make_settings("apt")
        kernel = replace(settings.profile.kernel, release=declared)
        settings = replace(settings, profile=replace(settings.profile, kernel=kernel))
        with pytest.raises(UserError, match="release does not exist"):
            installed.kernel_release(settings.paths, settings.profile)
        settings.paths.kernel.mkdir(parents=True)
        (settings.paths.kernel / "release").write_text(f"{RELEASE}\n")
        if ok:
            assert installed.kernel_release(settings.paths, settings.profile) == RELEASE
            return
        with pytest.raises(
            UserError, match=r"declares kernel\.release = '6\.1', but the kernel's is '5\.4\.3-tiny"
        ) as caught:
            installed.kernel_release(settings.paths, settings.profile)
        assert "profiles/apt.toml" in caught.value.hint


def test_places_keep_the_profiles_order(make: Callable[..., Profile]) -> None:
    made = make(up("z"), up("c", "copy2fs"), up("d", "ondemand"), up("i", "initrd"), up("a"))
    assert plan.extensions_at(made, "onboot", "copy2fs") == ["z", "c", "a"]
    assert plan.extensions_at(made, "initrd") == ["i"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'name = "attr"',
            'name = "attr.tcz"',
            r"name: expected an extension's name without \.tcz, got 'attr\.tcz'",
        ),
        ('name = "attr"', 'name = "../attr"', "name: expected an extension's name"),
        ('name = "attr"', 'name = "attr"\nplace = "boot"', "place: expected one of 'onboot', "),
        ('name = "attr"', 'name = "attr"\norigin2 = "x"', "did you mean 'origin'"),
        (
            'release = "11.x"',
            'release = "11.x"\ntcz = ""',
            "tcz: needed by extension 'attr' with origin = 'up",
        ),
        ("[kernel]", '[kernel]\nrelease = ""', r"release: needed by modules = 'split'"),
        ("[kernel]", '[kernel]\nmodules = "some"', "modules: expected one of 'core', 'split'"),
    ],
)
def test_mistakes_in_a_profile_are_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = (CHECKOUT.root / "profiles/tc11.toml").read_text()
    assert old in text
    (tmp_path / "x.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=says):
        inheritance.load([tmp_path], "x", Profile)


class TestUnused:
    """Recipes that the profile does not need: their errors are their own."""

    def found(self, make: Callable[..., Profile], **recipes: str) -> plan.Plan:
        made = make(Extension("mine"), recipes={"mine": "", **recipes}, tcz="")
        return plan.plan(made, Lock(), unused=sorted([*recipes, "mine"]))

    def test_are_nodes_after_those_of_the_profile(self, make: Callable[..., Profile]) -> None:
        found = self.found(make, other="mine low", low="")
        assert list(found.nodes) == ["mine", "low", "other"]
        assert plan.used(make(Extension("mine")), found) == ["mine"]
        assert found.broken == {}

    def test_what_is_broken_has_no_node(self, make: Callable[..., Profile], tmp_path: Path) -> None:
        make(recipes={"bad": ""})
        path = tmp_path / "extensions/bad/recipe.toml"
        path.write_text("[info]\ntitel = 't'\n")
        found = self.found(make, above="bad", lost="nowhere", one="two", two="one")
        also = plan.plan(
            make(Extension("mine"), tcz=""), Lock(), unused=["above", "bad", "lost", "one", "two"]
        )
        assert list(found.nodes) == list(also.nodes) == ["mine"]
        said = {name: error.message for name, error in also.broken.items()}
        assert said == {
            "above": f"{path}: unknown key 'info.titel'",
            "bad": f"{path}: unknown key 'info.titel'",
            "lost": f"{path.parents[1]}/lost/recipe.toml: there is no recipe for extension 'nowhere'",
            "one": "extensions depend on each other in a circle: one -> two -> one",
            "two": "extensions depend on each other in a circle: two -> one -> two",
        }
        with pytest.raises(UserError, match="titel"):
            plan.refuse(also.broken["bad"])
        with pytest.raises(UserError, match="titel"):
            plan.plan(make(Extension("bad")), Lock())

    def test_what_waits_for_an_upstream_extension_has_no_part_in_a_closure(
        self, make: Callable[..., Profile]
    ) -> None:
        made = make(up("theirs"), recipes={"mine": "theirs"})
        found = plan.plan(made, Lock(), unused=["mine"])
        assert list(found.missing) == ["theirs"]
        assert found.closure(["mine"]) == ["mine"]
        assert plan.left_out(made, found) == {"mine": "it needs theirs, which is not locked (./doit lock)"}


def test_an_unknown_extension_is_named_with_its_file_and_the_near_one(
    make: Callable[..., Profile], tmp_path: Path
) -> None:
    made = make(Extension("atr"), recipes={"attr": ""}, tcz="")
    inherited, own = tmp_path / "base.toml", tmp_path / "own.toml"
    inherited.write_text('[[extensions]]\nname = "atr"\n')
    own.write_text('inherit = "base"\n')
    with pytest.raises(UserError) as caught:
        plan.plan(made, Lock(), files=[own, inherited])
    assert caught.value.message == f"{inherited}: there is no recipe for extension 'atr'"
    assert caught.value.hint == "did you mean 'attr'? extensions/ holds: attr"


@pytest.fixture
def driver(make: Callable[..., Profile], tmp_path: Path) -> Callable[..., Profile]:
    """Return a function that makes a profile, with a recipe `drv-KERNEL` of a module beside it."""

    def made(*extensions: Extension, **more: Any) -> Profile:
        profile = make(*extensions, recipes={"uses": "drv-KERNEL"})
        folder = CHECKOUT.extensions / "drv-KERNEL"
        folder.mkdir()
        source = 'source = { kind = "folder", path = "src" }'
        origin = f'[[origin]]\nkind = "module"\nversion = "1"\n{source}\n'
        (folder / "recipe.toml").write_text(f'[info]\ntitle = "t"\ndescription = "d"\n{origin}')
        return replace(profile, kernel=replace(profile.kernel, **more))

    return made


def test_an_extension_of_modules_is_named_after_the_kernel(driver: Callable[..., Profile]) -> None:
    made = driver(Extension("uses"), Extension("drv-KERNEL", "ondemand"))
    name = f"drv-{RELEASE}"
    found = plan.plan(made, Lock(), unused=["drv-KERNEL", "uses"])
    assert found.nodes[name].kind == "recipe"
    assert found.nodes["uses"].deps == (name,)
    assert plan.used(made, found) == [name, "uses"]
    assert plan.extensions_at(made, "ondemand") == [name]
    assert plan.recipe_of(made, name).has_modules
    assert plan.dep_text(made, ["drv-KERNEL"]) == "drv-KERNEL.tcz\n"
    assert plan.left_out(made, found) == {}


def test_modules_need_the_release_of_the_kernel_and_its_build_folder(
    driver: Callable[..., Profile],
) -> None:
    made = driver(release="", modules="core")
    found = plan.plan(made, Lock(), unused=["drv-KERNEL"])
    assert str(found.broken["drv-KERNEL"].message).endswith("the profile does not set the kernel's release")
    image = replace(made, kernel=Kernel(source=KernelImage(package="p"), release=RELEASE))
    found = plan.plan(image, Lock(), unused=["drv-KERNEL"])
    assert (
        "a kernel that others built (kernel.source.kind = 'image') has none"
        in (plan.left_out(image, found)["drv-KERNEL"])
    )
    used = replace(image, extensions=(Extension("drv-KERNEL"),))
    with pytest.raises(UserError, match="its modules need the build folder of the kernel"):
        plan.plan(used, Lock())


def test_a_program_from_source_is_compiled_by_the_toolchain_that_fits_the_base(
    make: Callable[..., Profile],
) -> None:
    made = make(Extension("tool"))  # of release 11.x
    folder = CHECKOUT.extensions / "tool"
    folder.mkdir(parents=True)
    source = 'version = "1"\nbuild = "make"\nsource = { kind = "folder", path = "src" }\n'
    text = f'[info]\ntitle = "t"\ndescription = "d"\n[[origin]]\nkind = "source"\n{source}'
    (folder / "recipe.toml").write_text(text)
    assert recipe.toolchains(plan.recipe_of(made, "tool")) == ("debian11-source",)
    assert recipe.toolchains(plan.recipe_of(profile.load("apt"), "tool")) == ("debian12-source",)
    (folder / "recipe.toml").write_text(f'{text}toolchain = "debian12"\n')
    assert recipe.toolchains(plan.recipe_of(made, "tool")) == ("debian12",)
    other = replace(made, arch="x86")
    with pytest.raises(UserError, match="src is compiled for x86_64 alone"):
        plan.recipe_to_build(other, "tool")
