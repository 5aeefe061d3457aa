"""Which extensions a profile is made of: recipes, upstream ones, and the kernel's modules.

Extensions name each other in `.dep` files, one a line, as tce-load's
recursive_scan_dep reads them: white space and empty lines do not count, `NAME-KERNEL`
stands for `NAME-` and what `uname -r` says, and a circle is told of and broken.
What an upstream extension needs stands in the lock, so that nothing here asks the network.
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks import originlock, recipe, schema
from tasks.errors import UserError
from tasks.files import sha256_file, write_atomic
from tasks.profile import EXTENSION_NAME, Lock, Profile, Settings, load_lock
from tasks.recipe import Recipe
from tasks.run import ROOT, say

KERNEL = "-KERNEL"
ORIGINAL = "original-modules"
# An upstream extension and what lies beside it; tce-load fetches no .info either.
UPSTREAM_ENDINGS = (".tcz", ".tcz.dep", ".tcz.list", ".tcz.md5.txt")
# What lies beside the extensions on a mirror; tasks/mirror.py says what is in them.
DATABASES = ("dep.db", "info.lst", "md5.db", "provides.db", "sizelist", "tags.db")
Kind = Literal["recipe", "upstream", "modules"]


@dataclass(frozen=True)
class Group:
    """Modules that make one extension: patterns of paths below lib/modules/RELEASE/kernel."""

    name: str
    description: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Sorting:
    """kconfig/modules.toml: what stays in the core for certain, and the groups, in order."""

    core: tuple[str, ...]
    group: tuple[Group, ...]


@dataclass(frozen=True)
class Node:
    """An extension of the plan; `deps` are names of other nodes.

    What a `modules` extension needs is known when the kernel is built.
    """

    name: str
    kind: Kind
    deps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All extensions of a profile.

    nodes: by name, each after what it needs (but for circles); loops: circles as
    `a -> b -> a`; missing: upstream extensions that no lock knows yet, and who wants them.
    """

    nodes: Mapping[str, Node]
    loops: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.nodes)}

    def of_kind(self, kind: Kind) -> list[str]:
        """Return the names of one kind."""
        return [node.name for node in self.nodes.values() if node.kind == kind]

    def closure(self, names: Iterable[str]) -> list[str]:
        """Return `names` and all they need, in the plan's order."""
        wanted: set[str] = set()
        todo = [name for name in names if name in self.nodes]
        while todo:
            name = todo.pop()
            if name not in wanted:
                wanted.add(name)
                todo += self.nodes[name].deps
        return sorted(wanted, key=self._order.__getitem__)


def parse_dep(text: str, what: str) -> tuple[str, ...]:
    """Return the names in a .dep file, without .tcz, each once, `-KERNEL` as it stands.

    Raises `UserError`, with `what` in it, for anything that is no extension's name.
    """
    names: dict[str, None] = {}
    for line in text.splitlines():
        name = "".join(line.split()).removesuffix(".tcz")
        if not name:
            continue
        if not EXTENSION_NAME.fullmatch(name):
            message = f"{what} is no list of extensions: {line.strip()[:60]!r}"
            raise UserError(message, "it must name one extension a line, as NAME.tcz")
        names[name] = None
    return tuple(names)


def dep_text(profile: Profile, deps: Iterable[str]) -> str:
    """Return a .dep file for `deps`, without kernel modules that the core holds anyway."""
    return "".join(f"{name}.tcz\n" for name in deps if not in_core(profile, name))


@functools.cache
def sorting() -> Sorting:
    """Return kconfig/modules.toml.  Raises `UserError` if it is malformed."""
    return schema.load(ROOT / "kconfig" / "modules.toml", Sorting)


def module_groups() -> list[str]:
    """Return the names, without `-KERNEL`, of all extensions the kernel's modules make."""
    return [*(group.name for group in sorting().group), ORIGINAL]


def module_extensions(profile: Profile) -> list[str]:
    """Return the names of all extensions made of the profile's own kernel modules."""
    if profile.kernel.modules == "core":
        return []
    return [f"{name}-{profile.kernel.release}" for name in module_groups()]


def in_core(profile: Profile, name: str) -> bool:
    """Tell whether `NAME-KERNEL` stands for modules that all lie in the core."""
    in_the_core = profile.kernel.modules == "core"
    return in_the_core and name.endswith(KERNEL) and name.removesuffix(KERNEL) in module_groups()


def resolved(profile: Profile, name: str) -> str:
    """Return `name` with `-KERNEL` replaced.  Raises `UserError` if the release is not declared."""
    if not name.endswith(KERNEL):
        return name
    if not profile.kernel.release:
        hint = "set kernel.release in the profile to what `uname -r` will say"
        raise UserError(f"extension {name}: the profile does not say the kernel's release", hint)
    return f"{name.removesuffix(KERNEL)}-{profile.kernel.release}"


def mirror(settings: Settings) -> Path:
    """Return the folder that `./doit mirror` writes: what /opt/tcemirror names, on a web host."""
    return settings.output / "mirror"


def mirror_folder(profile: Profile) -> str:
    """Return the folder of extensions below a mirror's address, `RELEASE.x/ARCH/tcz`.

    Where the profile does not say it, that of the root in rootfs/; tasks/mirror.py holds it
    against the root that was built.
    """
    if profile.tcz:
        return profile.tcz.strip("/")
    path = ROOT / "rootfs/etc/os-release"
    text = path.read_text() if path.is_file() else ""
    found = re.search(r'^VERSION_ID="?(\d+)', text, re.MULTILINE)
    return f"{found[1] if found else 'unknown'}.x/x86_64/tcz"


def kernel_release(settings: Settings) -> str:
    """Return what `uname -r` will say of the kernel built.

    Raises `UserError` if there is none yet, or not the one the profile declares.
    """
    path = settings.kernel / "release"
    if not path.is_file():
        raise UserError(f"{path} does not exist", "build the kernel first: `doit kernel`")
    release, declared = path.read_text().strip(), settings.profile.kernel.release
    if declared and release != declared:
        raise UserError(
            f"profile {settings.name} declares kernel.release = {declared!r}, but {release!r} was built",
            f"set kernel.release = {release!r} in profiles/{settings.name}.toml",
        )
    return release


def core_modules(settings: Settings) -> Path:
    """Return the folder whose lib/modules/RELEASE goes into the core."""
    split = settings.profile.kernel.modules == "split"
    return settings.output / "modules" if split else settings.kernel / "modules"


def placed(profile: Profile, *places: str) -> list[str]:
    """Return the profile's extensions that go to one of `places`, in its order."""
    return [
        resolved(profile, item.name)
        for item in profile.extensions
        if item.place in places and not in_core(profile, item.name)
    ]


class _Walk:
    """One walk over all extensions of a profile, deps first."""

    def __init__(self, profile: Profile, lock: Lock, absent: Container[str] | None) -> None:
        self.profile = profile
        self.locked = {item.name: item for item in lock.extension}
        self.absent = absent
        self.modules = set(module_extensions(profile))
        self.origins = {item.name: item.origin for item in profile.extensions}
        self.nodes: dict[str, Node] = {}
        self.kinds: dict[str, Kind] = {}
        self.loops: list[str] = []
        self.missing: dict[str, str] = {}

    def visit(self, name: str, path: tuple[str, ...]) -> None:
        """Add `name`, wanted by the last of `path`, after all it needs."""
        if name in path:
            self._loop([*path[path.index(name) :], name])
            return
        if name in self.nodes or name in self.missing:
            return
        kind = self._kind(name, path[-1] if path else "")
        if kind is None:
            self.missing[name] = f"{path[-1]}.tcz" if path else "the profile"
            return
        self.kinds[name] = kind
        deps: Sequence[str] = ()
        if kind == "recipe":
            deps = recipe.load(name).deps
        elif kind == "upstream":
            deps = self.locked[name].deps
        needed = [resolved(self.profile, dep) for dep in deps if not in_core(self.profile, dep)]
        for dep in needed:
            self.visit(dep, (*path, name))
        self.nodes[name] = Node(name, kind, tuple(dict.fromkeys(needed)))

    def _kind(self, name: str, wanted_by: str) -> Kind | None:
        """Return what `name` is; None for an upstream extension no lock knows.

        The profile decides; then what is locked; then recipes are found for recipes,
        and for upstream extensions if the mirrors are known not to have the name.
        """
        if name in self.modules:
            return "modules"
        origin = self.origins.get(name)
        if origin != "recipe" and name in self.locked:
            return "upstream"
        from_upstream = origin == "upstream" or self.kinds.get(wanted_by) == "upstream"
        if origin != "upstream" and recipe.exists(name):
            asked = self.absent is None or name in self.absent
            if not from_upstream or asked:
                return "recipe"
        if from_upstream or (self.profile.tcz and not origin):
            return None
        recipe.load(name)  # says that there is none
        return "recipe"

    def _loop(self, circle: list[str]) -> None:
        text = " -> ".join(circle)
        if all(self.kinds[name] == "recipe" for name in circle):
            raise UserError(f"extensions depend on each other in a circle: {text}")
        self.loops.append(text)


def plan(
    profile: Profile, lock: Lock, absent: Container[str] | None = None, also: Sequence[str] = ()
) -> Plan:
    """Return all extensions of `profile` and of the recipes `also`, as recipes and `lock` have them.

    absent: names the mirrors were asked for and do not have (None: nobody is asked any
    more, so that a recipe stands in for every name the lock lacks).

    Raises `UserError` for a name that is nowhere, and for a circle of recipes alone.
    """
    walk = _Walk(profile, lock, absent)
    for item in profile.extensions:
        if not in_core(profile, item.name):
            walk.visit(resolved(profile, item.name), ())
    for name in also:
        walk.visit(name, ())
    return Plan(walk.nodes, tuple(walk.loops), walk.missing)


def recipe_of(profile: Profile, name: str) -> Recipe:
    """Return the recipe of `name` with the alternative that the profile takes.

    Raises `UserError` as `recipe.load` and `recipe.chosen` do.
    """
    wanted = next((item.alternative for item in profile.extensions if item.name == name), "")
    return recipe.chosen(name, recipe.load(name), wanted)


def left_out(profile: Profile, found: Plan) -> dict[str, str]:
    """Return which recipes are not built unless asked for by name, and why: name -> reason.

    Those of whose origins no sha256 is locked, and those that need one of them; what the
    profile itself is made of is never left out.
    """
    named = set(found.closure(resolved(profile, item.name) for item in profile.extensions))
    out: dict[str, str] = {}
    for node in found.nodes.values():
        if node.kind != "recipe" or node.name in named:
            continue
        missing = originlock.unlocked(node.name, recipe_of(profile, node.name))
        needed = [dep for dep in node.deps if dep in out]
        if missing:
            what = missing[0].identity()
            out[node.name] = f"no sha256 is locked for {what} (./doit lock:{node.name})"
        elif needed:
            out[node.name] = f"it needs {needed[0]}, which is left out"
    return out


def tell_left_out(out: Mapping[str, str]) -> None:
    """Say in one line each what `left_out` found."""
    for name, reason in out.items():
        say(f"left out: {name}.tcz: {reason}")


def require_importer(profile: Profile, found: Plan) -> None:
    """Raise `UserError` if the profile has images, and no extension that would import them."""
    if not profile.images:
        return
    able = [name for name in recipe.names() if recipe.load(name).imports_images]
    wanted = found.closure(placed(profile, "onboot", "copy2fs", "ondemand", "initrd"))
    if not any(name in able and found.nodes[name].kind == "recipe" for name in wanted):
        raise UserError(
            f"the profile has images ({profile.images[0].name}) but no extension that imports them",
            f"add one with a recipe that does, under [[extensions]]: {' or '.join(able)}",
        )


def needed_by(settings: Settings, name: str) -> list[str]:
    """Return all recipes and upstream extensions that the recipe `name` needs, in the plan's order."""
    # Only what it needs is walked: this is asked for each extension.
    walk = _Walk(settings.profile, load_lock(settings.used_lock), None)
    walk.visit(name, ())
    return [other for other, node in walk.nodes.items() if other != name and node.kind != "modules"]


def tell_loops(found: Plan) -> None:
    """Warn of circles, as tce-load does when it meets them."""
    for loop in found.loops:
        say(f"warning: loop dependency {loop}; tce-load loads them all the same")


def install(settings: Settings, name: str) -> None:
    """Put a fetched upstream extension, its .dep and .md5.txt into `artifacts/PROFILE/tcz/`.

    Says which device nodes and set-id programs it brings: whoever loads it gets them.
    What the cache has lost since it was fetched is fetched again.  Raises `UserError` if it
    was not fetched, cannot be had any more, or is a bomb.
    """
    used = {item.name: item for item in load_lock(settings.used_lock).extension}
    item = used.get(name)
    if item is None:
        raise UserError(f"extension {name} was not fetched yet", "./doit fetch")
    cached = item.cached_in(settings.cache)
    if not cached.is_file() or sha256_file(cached) != item.sha256:
        from tasks.ondemand import from_mirrors  # imports requests

        from_mirrors(settings, f"{settings.profile.tcz.strip('/')}/{name}.tcz", item)
    final = settings.tcz / f"{name}.tcz"
    write_atomic(final, cached.read_bytes())
    final.with_name(f"{final.name}.info").unlink(missing_ok=True)  # of a recipe that had this name
    paths, special = listing(final)
    if special:
        say(f"warning: {final.name} brings {', '.join(special)}")
    write_atomic(final.with_name(f"{final.name}.list"), "".join(f"{path}\n" for path in paths))
    write_atomic(final.with_name(f"{final.name}.dep"), dep_text(settings.profile, item.deps))
    write_atomic(final.with_name(f"{final.name}.md5.txt"), f"{item.md5}  {final.name}\n")


def listing(squashfs: Path) -> tuple[list[str], list[str]]:
    """Return the paths of all in an extension but folders, and which are devices or set-id programs.

    Raises `UserError` if it is damaged, or unpacks to far too much.
    """
    from tasks.extracted import squashfs_tar  # imports what reads archives

    paths, special = [], []
    with squashfs_tar(squashfs) as tar:
        for entry in tar:
            if entry.isdir():
                continue
            paths.append(entry.name)
            if entry.isdev():
                special.append(f"the device node or FIFO {entry.name}")
            elif entry.isfile() and entry.mode & (stat.S_ISUID | stat.S_ISGID):
                special.append(f"{stat.filemode(stat.S_IFREG | entry.mode)} {entry.name}")
    return sorted(paths), sorted(special)
