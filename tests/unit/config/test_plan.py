"""Which extensions a profile is made of, and the tree of them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config import plan, profile, recipe
from tasks.config.profile import Extension, Profile
from tasks.config.settings import Settings
from tasks.extensions import dependency_tree, upstream
from tasks.fetch import bring
from tasks.formats.tcz import parse_dep
from tasks.kernel import installed
from tasks.origins.lock import Lock, LockedExtension, load_lock
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError

RELEASE = "5.4.3-tinycore64"


def locked(**deps: str) -> Lock:
    """Return a lock of upstream extensions: `name="its deps"`; `_` in a name is `-`."""
    return Lock(
        extension=tuple(
            LockedExtension(name.replace("_", "-"), "a" * 64, "b" * 32, 1024, tuple(text.split()))
            for name, text in deps.items()
        )
    )


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Profile]:
    """Return a function that makes a profile: `upstream` names, `recipes` with their deps."""
    loaded = profile.load("tc11")
    monkeypatch.setattr(recipe, "ROOT", tmp_path)

    def call(
        *extensions: Extension,
        recipes: dict[str, str] | None = None,
        modules: str = "split",
        tcz: str = "tcz",
    ) -> Profile:
        for name, text in (recipes or {}).items():
            folder = tmp_path / "extensions" / name
            folder.mkdir(parents=True)
            deps = ", ".join(f'"{dep}"' for dep in text.split())
            (folder / "recipe.toml").write_text(f'deps = [{deps}]\n[info]\ntitle="t"\ndescription="d"\n')
        kernel = replace(loaded.kernel, modules=modules, release=RELEASE)  # type: ignore[arg-type]
        return replace(loaded, extensions=extensions, kernel=kernel, tcz=tcz)

    return call


def up(name: str, place: str = "onboot") -> Extension:
    return Extension(name, place, "upstream")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("a.tcz\nb.tcz\n", ("a", "b")),
        ("a.tcz", ("a",)),
        ("a.tcz\r\nb.tcz\r\n", ("a", "b")),
        ("  a.tcz \t\n\n\n \nb.tcz   ", ("a", "b")),
        ("b.tcz\na.tcz\nb.tcz\n", ("b", "a")),
        ("a\n", ("a",)),
        ("ipv6-netfilter-KERNEL.tcz\n", ("ipv6-netfilter-KERNEL",)),
        ("gtk+-2.0_x.tcz\n4pane.tcz\n", ("gtk+-2.0_x", "4pane")),
    ],
)
def test_dep_files_are_read_as_tce_load_does(text: str, names: tuple[str, ...]) -> None:
    assert parse_dep(text, "x.dep") == names


@pytest.mark.parametrize(
    "text", ["<html>not found</html>", "../../etc/passwd.tcz", "/a.tcz", "a.tcz\n.b.tcz", "a\0b", "é.tcz"]
)
def test_what_is_no_list_of_extensions_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"mirror/x\.dep is no list of extensions"):
        parse_dep(text, "mirror/x.dep")


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith((".tcz", "-KERNEL"))
)


@given(st.lists(NAMES, unique=True), st.sampled_from(["\n", "\r\n", " \n\n", "\t\r\n"]))
def test_any_list_is_read_back(names: list[str], end: str) -> None:
    assert parse_dep("".join(f"{name}.tcz{end}" for name in names), "x") == tuple(names)


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
    plan.tell_loops(found)
    assert capsys.readouterr().out.splitlines() == [
        "warning: loop dependency a -> b -> c -> a; tce-load loads them all the same",
        "warning: loop dependency me -> me; tce-load loads them all the same",
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
        assert plan.placed(made, "onboot", "ondemand") == ["a"]
        assert plan.dep_text(made, lock.extension[0].deps) == "b.tcz\n"
        assert plan.module_extensions(made) == []

    def test_others_are_upstream(self, make: Callable[..., Profile]) -> None:
        """Out-of-tree modules, which no kernel build makes."""
        lock = Lock(extension=(LockedExtension(f"zfs-{RELEASE}", "a" * 64, "b" * 32, 1),))
        for modules in ("split", "core"):
            made = make(up("zfs-KERNEL"), modules=modules)
            assert plan.plan(made, lock).of_kind("upstream") == [f"zfs-{RELEASE}"]
            assert plan.placed(made, "onboot") == [f"zfs-{RELEASE}"]

    def test_a_release_nobody_declared(self, make: Callable[..., Profile]) -> None:
        made = make(up("zfs-KERNEL"))
        made = replace(made, kernel=replace(made.kernel, modules="core", release=""))
        with pytest.raises(UserError, match="zfs-KERNEL: the profile does not say") as caught:
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
            installed.kernel_release(settings)
        settings.kernel.mkdir(parents=True)
        (settings.kernel / "release").write_text(f"{RELEASE}\n")
        if ok:
            assert installed.kernel_release(settings) == RELEASE
            return
        with pytest.raises(
            UserError, match=r"declares kernel\.release = '6\.1', but '5\.4\.3-tiny"
        ) as caught:
            installed.kernel_release(settings)
        assert "profiles/apt.toml" in caught.value.hint


def test_places_keep_the_profiles_order(make: Callable[..., Profile]) -> None:
    made = make(up("z"), up("c", "copy2fs"), up("d", "ondemand"), up("i", "initrd"), up("a"))
    assert plan.placed(made, "onboot", "copy2fs") == ["z", "c", "a"]
    assert plan.placed(made, "initrd") == ["i"]


def test_an_extension_that_was_not_fetched(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("apt")
    settings.output.mkdir(parents=True)
    with pytest.raises(UserError, match="extension a was not fetched yet"):
        bring.extension(settings, "a")
    settings.used_lock.write_text(locked(a="").to_toml())
    with pytest.raises(UserError, match="offline=1"):
        bring.extension(replace(settings, offline=True), "a")
    with pytest.raises(UserError, match=r"a\.tcz is not in the cache"):
        upstream.install(settings, "a")


def test_a_damaged_cache_is_noticed_and_nothing_is_left(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings("apt", offline=True)
    lock = locked(a="")
    settings.output.mkdir(parents=True)
    settings.used_lock.write_text(lock.to_toml())
    cached = lock.extension[0].cached_in(settings.cache)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"hsqs but another")
    with pytest.raises(UserError, match=r"a\.tcz.*offline=1"):
        bring.extension(settings, "a")
    assert not settings.tcz.exists()


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
        ('tcz = "11.x/x86_64/tcz"', "", "tcz: needed by extension 'attr' with origin = 'upstream'"),
        ('release = "5.4.3-tinycore64"', "", r"release: needed by modules = 'split'"),
        ('modules = "split"', 'modules = "some"', "modules: expected one of 'core', 'split'"),
    ],
)
def test_mistakes_in_a_profile_are_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = (ROOT / "profiles/tc11.toml").read_text()
    assert old in text
    (tmp_path / "x.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=says):
        toml_schema.load(tmp_path / "x.toml", Profile)


HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
ENTRIES = st.builds(
    LockedExtension, NAMES, HEX.map(lambda text: text * 2), HEX, st.integers(0), st.lists(NAMES).map(tuple)
)


@given(st.lists(ENTRIES, unique_by=lambda entry: entry.name))
def test_any_lock_is_read_back_and_always_in_the_same_order(entries: list[LockedExtension]) -> None:
    lock = Lock(extension=tuple(sorted(entries, key=lambda entry: entry.name)))
    text = lock.to_toml()
    assert toml_schema.build(tomllib.loads(text), Lock, "x", "") == lock
    assert Lock(extension=tuple(entries)).to_toml() == text


def test_a_lock_cannot_name_paths(tmp_path: Path) -> None:
    """A .dep of a hostile mirror must not reach outside the cache through the lock either."""
    path = tmp_path / "x.lock.toml"
    good = Lock(extension=(LockedExtension("a", "a" * 64, "b" * 32, 1, ("b",)),)).to_toml()
    path.write_text(good)
    assert load_lock(path).extension[0].deps == ("b",)
    for old, new in (
        ('name = "a"', 'name = "../a"'),
        ('    "b"', '    "/b"'),
        ("b" * 32, "b" * 31),
    ):
        path.write_text(good.replace(old, new))
        with pytest.raises(UserError, match=r"x\.lock\.toml: extension\[0\]\.(name|md5): expected"):
            load_lock(path)


class TestTree:
    def test_sizes_repeats_and_circles(self, make: Callable[..., Profile]) -> None:
        lock = locked(top="left right", left="base", right="base lost", base="leaf", leaf="base")
        found = plan.plan(make(up("top")), lock)
        deps = {name: node.deps for name, node in found.nodes.items()}
        sizes = {"top": 3 << 20, "left": 2048, "right": 999, "base": 1 << 20}
        assert dependency_tree.tree_lines(found, deps, ["top"], sizes) == [
            "top  3.0M  upstream",
            "|-- left  2K  upstream",
            "|   `-- base  1.0M  upstream",
            "|       `-- leaf  -  upstream",
            "|           `-- base  (circle)",
            "`-- right  999  upstream",
            "    |-- base  1.0M  upstream  (again)",
            "    `-- lost  -  not locked",
            "6 extensions, 4.0M, 2 not built or fetched yet",
        ]

    def test_the_command_shows_the_profile_or_what_was_asked_for(
        self, make: Callable[..., Profile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = make(up("a"), Extension("r"), recipes={"r": "kvm-KERNEL", "other": ""})
        settings = Settings("none", made, False, False, (), tmp_path / "out", tmp_path / "cache")
        settings.tcz.mkdir(parents=True)
        (settings.tcz / "r.tcz").write_bytes(bytes(5000))
        (settings.tcz / f"kvm-{RELEASE}.tcz.dep").write_text("sctp-KERNEL.tcz\n")
        dependency_tree.print_tree(settings, [])
        assert capsys.readouterr().out == (
            "a  -  not locked\n"
            "r  5K  recipe\n"
            f"`-- kvm-{RELEASE}  -  modules\n"
            f"    `-- sctp-{RELEASE}  -  modules\n"
            "4 extensions, 5K, 3 not built or fetched yet\n"
        )
        dependency_tree.print_tree(settings, ["other.tcz"])
        assert capsys.readouterr().out.startswith("other  -  recipe\n1 extensions")
        with pytest.raises(UserError, match="no extension 'lost'") as caught:
            dependency_tree.print_tree(settings, ["lost"])
        assert "other, r" in caught.value.hint
