"""Which extensions a profile is made of: recipes, upstream ones, and the kernel's modules.

Extensions name each other in `.dep` files, one a line, as tce-load's
recursive_scan_dep reads them: white space and empty lines do not count, `NAME-KERNEL`
stands for `NAME-` and what `uname -r` says, and a circle is told of and broken.
What an upstream extension needs stands in the lock, so that nothing here asks the network.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.config import recipe, recipe_lock
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.config.settings import Settings
from tasks.origins.lock import Lock, load_lock
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.log import logger

KERNEL = "-KERNEL"
ORIGINAL = "original-modules"
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


def dep_text(profile: Profile, deps: Iterable[str]) -> str:
    """Return a .dep file for `deps`, without kernel modules that the core holds anyway."""
    return "".join(f"{name}.tcz\n" for name in deps if not in_core(profile, name))


@functools.cache
def sorting() -> Sorting:
    """Return kconfig/modules.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(ROOT / "kconfig" / "modules.toml", Sorting)


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


def resolve_name(profile: Profile, name: str) -> str:
    """Return `name` with `-KERNEL` replaced.  Raises `UserError` if the release is not declared."""
    if not name.endswith(KERNEL):
        return name
    if not profile.kernel.release:
        hint = "set kernel.release in the profile to what `uname -r` will say"
        raise UserError(f"extension {name}: the profile does not say the kernel's release", hint)
    return f"{name.removesuffix(KERNEL)}-{profile.kernel.release}"


def extensions_at(profile: Profile, *places: str) -> list[str]:
    """Return the profile's extensions that go to one of `places`, in its order."""
    return [
        resolve_name(profile, item.name)
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
        needed = [resolve_name(self.profile, dep) for dep in deps if not in_core(self.profile, dep)]
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
            walk.visit(resolve_name(profile, item.name), ())
    for name in also:
        walk.visit(name, ())
    return Plan(walk.nodes, tuple(walk.loops), walk.missing)


def recipe_of(profile: Profile, name: str) -> Recipe:
    """Return the recipe of `name` with the alternative that the profile takes.

    Raises `UserError` as `recipe.load` and `recipe.with_alternative` do.
    """
    wanted = next((item.alternative for item in profile.extensions if item.name == name), "")
    return recipe.with_alternative(name, recipe.load(name), wanted)


def left_out(profile: Profile, found: Plan) -> dict[str, str]:
    """Return which recipes are not built unless asked for by name, and why: name -> reason.

    Those of whose origins no sha256 is locked, and those that need one of them; what the
    profile itself is made of is never left out.
    """
    named = set(found.closure(resolve_name(profile, item.name) for item in profile.extensions))
    out: dict[str, str] = {}
    for node in found.nodes.values():
        if node.kind != "recipe" or node.name in named:
            continue
        missing = recipe_lock.unlocked_origins(node.name, recipe_of(profile, node.name))
        needed = [dep for dep in node.deps if dep in out]
        if missing:
            what = missing[0].identity()
            out[node.name] = f"no sha256 is locked for {what} (./doit lock:{node.name})"
        elif needed:
            out[node.name] = f"it needs {needed[0]}, which is left out"
    return out


def log_left_out(out: Mapping[str, str]) -> None:
    """Say in one line each what `left_out` found."""
    for name, reason in out.items():
        logger.info(f"left out: {name}.tcz: {reason}")


def require_importer(profile: Profile, found: Plan) -> None:
    """Raise `UserError` if the profile has images, and no extension that would import them."""
    if not profile.images:
        return
    able = [name for name in recipe.names() if recipe.load(name).imports_images]
    wanted = found.closure(extensions_at(profile, "onboot", "copy2fs", "ondemand", "initrd"))
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


def log_loops(found: Plan) -> None:
    """Warn of circles, as tce-load does when it meets them."""
    for loop in found.loops:
        logger.warning(f"loop dependency {loop}; tce-load loads them all the same")
