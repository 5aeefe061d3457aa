# SPDX-License-Identifier: MIT
"""All extensions of a profile: from recipes, from upstream, and from the kernel's modules.

A `.dep` file names the extensions that one needs, one a line, as tce-load's
recursive_scan_dep reads them: white space and empty lines are ignored, `NAME-KERNEL`
stands for `NAME-` and the output of `uname -r`, and a circle is reported and broken.
The lock holds the dependencies of upstream extensions, so this module needs no network.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.config import checks, inheritance, recipe, recipe_lock
from tasks.config.profile import Profile
from tasks.config.recipe import Recipe
from tasks.config.settings import Paths
from tasks.origins.lock import Lock, load_lock
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.text import did_you_mean

KERNEL = recipe.KERNEL
ORIGINAL = "original-modules"
READY_MADE = ("upstream", "imported")  # origins of extensions that nothing builds
AT_BOOT = ("initrd", "onboot", "copy2fs")  # places of extensions that are loaded at boot
Kind = Literal["recipe", "upstream", "modules"]


@dataclass(frozen=True)
class Group:
    """Kernel modules that make one extension.

    name: the name of the extension, without `-KERNEL` and .tcz.
    description: what its .info file says.
    patterns: shell patterns of paths below lib/modules/RELEASE/kernel.
    """

    name: str
    description: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Sorting:
    """The file kconfig/modules.toml: how kernel modules are divided into extensions.

    core: shell patterns of modules that stay in the core although a group matches them.
    boot: shell patterns of the modules that are in the core with kernel.modules = "boot".
    group: the groups of modules that make an extension each; the first that matches counts.
    """

    core: tuple[str, ...]
    boot: tuple[str, ...]
    group: tuple[Group, ...]


@dataclass(frozen=True)
class Node:
    """An extension of the plan; `deps` are names of other nodes.

    The dependencies of a `modules` extension are known only after the kernel build.
    """

    name: str
    kind: Kind
    deps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All extensions of a profile.

    nodes: by name, each after its dependencies (except in circles); loops: circles as
    `a -> b -> a`; missing: upstream extensions that are not locked, and what needs each;
    broken: recipes that the profile does not need and that have no node, each with its error.
    """

    nodes: Mapping[str, Node]
    loops: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, UserError] = field(default_factory=dict)

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.nodes)}

    def of_kind(self, kind: Kind) -> list[str]:
        """Return the names of one kind."""
        return [node.name for node in self.nodes.values() if node.kind == kind]

    def closure(self, names: Iterable[str]) -> list[str]:
        """Return `names` and all their dependencies, in the plan's order."""
        wanted: set[str] = set()
        todo = [name for name in names if name in self.nodes]
        while todo:
            name = todo.pop()
            if name not in wanted:
                wanted.add(name)
                todo += [dep for dep in self.nodes[name].deps if dep in self.nodes]
        return sorted(wanted, key=self._order.__getitem__)


def dep_text(profile: Profile, deps: Iterable[str]) -> str:
    """Return the text of a .dep file for `deps`, without kernel modules that the core holds."""
    return "".join(f"{name}.tcz\n" for name in deps if not in_core(profile, name))


@functools.cache
def sorting() -> Sorting:
    """Return kconfig/modules.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(CHECKOUT.find("kconfig", "modules.toml"), Sorting)


def made_by_recipe(profile: Profile, lock: Lock, name: str) -> bool:
    """Tell whether the extension `name`, which is built, came from a recipe."""
    if name in module_extensions(profile) or not recipe.exists(name):
        return False
    origin = next((item.origin for item in profile.extensions if item.name == name), "")
    return origin == "recipe" or (not origin and all(item.name != name for item in lock.extension))


def module_groups() -> list[str]:
    """Return the names, without `-KERNEL`, of all extensions of kernel modules."""
    return [*(group.name for group in sorting().group), ORIGINAL]


def module_extensions(profile: Profile) -> list[str]:
    """Return the names of all extensions of the profile's own kernel modules."""
    if profile.kernel.modules != "split":
        return []
    return [f"{name}-{profile.kernel.release}" for name in module_groups()]


def in_core(profile: Profile, name: str) -> bool:
    """Tell whether all modules of the extension `name` (`NAME-KERNEL`) that there are lie in the core."""
    in_the_core = profile.kernel.modules != "split"
    return in_the_core and name.endswith(KERNEL) and name.removesuffix(KERNEL) in module_groups()


def resolve_name(profile: Profile, name: str) -> str:
    """Return `name` with `-KERNEL` replaced.  Raises `UserError` if the profile has no release."""
    if not name.endswith(KERNEL):
        return name
    if not profile.kernel.release:
        hint = "set kernel.release in the profile to the output of `uname -r` on the built kernel"
        raise UserError(f"extension {name}: the profile does not set the kernel's release", hint)
    return f"{name.removesuffix(KERNEL)}-{profile.kernel.release}"


def extensions_at(profile: Profile, *places: str) -> list[str]:
    """Return the names of the profile's extensions at one of `places`, in its order."""
    return [
        resolve_name(profile, item.name)
        for item in profile.extensions
        if item.place in places and not in_core(profile, item.name)
    ]


class _Walk:
    """One walk over all extensions of a profile, dependencies first."""

    def __init__(
        self, profile: Profile, lock: Lock, absent: Container[str] | None, files: Sequence[Path] = ()
    ) -> None:
        self.profile = profile
        self.files = files
        self.locked = {item.name: item for item in lock.extension}
        self.absent = absent
        self.modules = set(module_extensions(profile))
        named = (item for item in profile.extensions if not in_core(profile, item.name))
        self.origins = {resolve_name(profile, item.name): item.origin for item in named}
        self.nodes: dict[str, Node] = {}
        self.kinds: dict[str, Kind] = {}
        self.loops: list[str] = []
        self.missing: dict[str, str] = {}

    def visit(self, name: str, path: tuple[str, ...]) -> None:
        """Add `name`, which the last of `path` needs, after its dependencies."""
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
            made = recipe.load(name)
            require_build_folder(self.profile, name, made)
            deps = made.deps
        elif kind == "upstream":
            deps = self.locked[name].deps
        needed = [resolve_name(self.profile, dep) for dep in deps if not in_core(self.profile, dep)]
        for dep in needed:
            self.visit(dep, (*path, name))
        self.nodes[name] = Node(name, kind, tuple(dict.fromkeys(needed)))

    def _kind(self, name: str, wanted_by: str) -> Kind | None:
        """Return the kind of `name`; None for an upstream extension that is not locked.

        The profile's `origin` decides first, then the lock.  Otherwise a recipe is taken for what
        a recipe needs, and for what an upstream extension needs if the mirrors lack the name.
        """
        if name in self.modules:
            return "modules"
        origin = self.origins.get(name)
        if origin != "recipe" and name in self.locked:
            return "upstream"
        from_upstream = origin in READY_MADE or self.kinds.get(wanted_by) == "upstream"
        if origin not in READY_MADE and recipe.exists(name):
            asked = self.absent is None or name in self.absent
            if not from_upstream or asked:
                return "recipe"
        if from_upstream or (self.profile.tcz and not origin):
            return None
        raise self._unknown(name, wanted_by)

    def _unknown(self, name: str, wanted_by: str) -> UserError:
        """Return the error for a name that no recipe has.  It names the file that asks for it."""
        if wanted_by:
            where = CHECKOUT.name_of(recipe.folder(wanted_by) / "recipe.toml")
        else:
            where = CHECKOUT.name_of(inheritance.file_with(self.files, inheritance.EXTENSIONS, name))
        known = recipe.names()
        hints = (
            did_you_mean(name, [*known, *sorted(self.modules)]),
            f"extensions/ holds: {', '.join(known)}",
        )
        return UserError(f"{where}: there is no recipe for extension {name!r}", " ".join(filter(None, hints)))

    def _loop(self, circle: list[str]) -> None:
        text = " -> ".join(circle)
        if all(self.kinds[name] == "recipe" for name in circle):
            raise UserError(f"extensions depend on each other in a circle: {text}")
        self.loops.append(text)


def plan(
    profile: Profile,
    lock: Lock,
    absent: Container[str] | None = None,
    also: Sequence[str] = (),
    unused: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> Plan:
    """Return all extensions of `profile` and of the recipes `also`, by the recipes and `lock`.

    absent: names that the mirrors do not have.  None means that no mirror will be asked, so a
    recipe is taken for every name that is not locked.
    unused: further recipes.  An error in one of them, or in what it needs, is no error of the plan.
    files: the files of the profile, for messages.

    Raises `UserError` for an unknown name, for a circle of recipes only, and for a malformed recipe.
    """
    walk = _Walk(profile, lock, absent, files)
    for item in profile.extensions:
        if not in_core(profile, item.name):
            walk.visit(resolve_name(profile, item.name), ())
    for name in also:
        walk.visit(name, ())
    broken = {}
    for name in unused:
        try:
            walk.visit(resolve_name(profile, name), ())
        except UserError as error:
            broken[name] = error
    return Plan(walk.nodes, tuple(walk.loops), walk.missing, broken)


def used(profile: Profile, found: Plan) -> list[str]:
    """Return the extensions that `profile` names, and all that they need, in the plan's order."""
    items = [item.name for item in profile.extensions if not in_core(profile, item.name)]
    return found.closure(resolve_name(profile, name) for name in items)


def recipe_of(profile: Profile, name: str) -> Recipe:
    """Return the recipe of `name` with the alternative that the profile chooses.

    An origin that is compiled has the profile's toolchain for programs, unless the recipe names one.
    Raises `UserError` as `recipe.load` and `recipe.with_alternative` do.
    """
    names = (name, recipe.name_of(name))
    wanted = next((item.alternative for item in profile.extensions if item.name in names), "")
    made = recipe.with_alternative(name, recipe.load(name), wanted)
    return recipe.with_toolchain(made, profile.programs_toolchain)


def recipe_to_build(profile: Profile, name: str) -> Recipe:
    """Return the recipe of `name` as `recipe_of` does.

    Raises `UserError` also if it makes programs for other architectures than the profile's.
    """
    made = recipe_of(profile, name)
    for origin in made.origin:
        if origin.architectures and profile.arch not in origin.architectures:
            made_for = " and ".join(origin.architectures)
            message = f"{recipe.label(name)}: {origin.label()} is compiled for {made_for} alone"
            hint = f"a profile for {profile.arch} takes another alternative of the recipe, or goes without it"
            raise UserError(message, hint)
    return made


def require_build_folder(profile: Profile, name: str, made: Recipe) -> None:
    """Raise `UserError` if the recipe has kernel modules, and others built the profile's kernel."""
    if made.has_modules and profile.kernel.image:
        raise UserError(
            f"extension {name}: its modules need the build folder of the kernel, and a kernel that others "
            "built (kernel.source.kind = 'image') has none",
            "take a profile that builds its kernel",
        )


def left_out(profile: Profile, found: Plan) -> dict[str, str]:
    """Return the recipes that `./doit tcz --all` does not build, each with the reason.

    These are recipes that are broken or have a broken lock, recipes for another architecture, recipes
    with an origin that is not locked, and recipes that need one of those.  Recipes take files from a
    suite's packages, which fit only a root made of the same packages: on another root, all that the
    profile does not need are left out.
    A recipe whose folder has no name of an extension is never built.
    A recipe that the profile itself needs is never left out.
    """
    named = set(used(profile, found))
    out = {name: error.message for name, error in found.broken.items()}
    for node in found.nodes.values():
        if node.kind != "recipe" or node.name in named:
            continue
        needed = [dep for dep in node.deps if dep in out]
        unlocked = [dep for dep in node.deps if dep in found.missing]
        try:
            missing = recipe_lock.unlocked_origins(node.name, recipe_to_build(profile, node.name))
        except UserError as error:  # a malformed lock, another architecture
            out[node.name] = error.message
            continue
        if missing:
            what = missing[0].identity()
            out[node.name] = f"no sha256 is locked for {what} (./doit lock:{recipe.name_of(node.name)})"
        elif needed:
            out[node.name] = f"it needs {needed[0]}, which is left out"
        elif unlocked:
            out[node.name] = f"it needs {unlocked[0]}, which is not locked (./doit lock)"
        elif not profile.core.rootfs:
            out[node.name] = f"the root is not made of a suite's packages (./doit tcz:{node.name})"
    return out | recipe.misnamed()


def refuse(error: UserError) -> None:
    """Raise `error`: the action of a task whose recipe is broken."""
    raise error


def log_left_out(out: Mapping[str, str]) -> None:
    """Log one line for each recipe that `left_out` returned."""
    for name, reason in out.items():
        logger.info(f"left out: {name}.tcz: {reason}")


def require_fitting(profile: Profile, found: Plan, files: Sequence[Path] = ()) -> None:
    """Raise `UserError` for an extension of the profile that fits another architecture alone.

    Raises it also as `require_importer` and `checks.require` do.  files: the files of the profile.
    """
    recipes = [name for name in used(profile, found) if found.nodes[name].kind == "recipe"]
    for name in recipes:
        recipe_to_build(profile, name)
    require_importer(profile, found)
    checks.require(profile, recipes, found.nodes, files)


def require_importer(profile: Profile, found: Plan) -> None:
    """Raise `UserError` if the profile has images but no extension that imports them."""
    if not profile.images:
        return
    able = [name for name, made in recipe.readable().items() if made.imports_images]
    wanted = found.closure(extensions_at(profile, "onboot", "copy2fs", "ondemand", "initrd"))
    if not any(name in able and found.nodes[name].kind == "recipe" for name in wanted):
        raise UserError(
            f"the profile has images ({profile.images[0].name}) but no extension that imports them",
            f"add one with a recipe that does, under [[extensions]]: {' or '.join(able)}",
        )


def needed_by(paths: Paths, profile: Profile, name: str) -> list[str]:
    """Return all recipes and upstream extensions that the recipe `name` needs, in the plan's order."""
    # Not the whole profile is walked: this runs once for each extension.
    walk = _Walk(profile, load_lock(paths.used_lock), None)
    walk.visit(name, ())
    return [other for other, node in walk.nodes.items() if other != name and node.kind != "modules"]


def log_loops(found: Plan) -> None:
    """Warn of circles, as tce-load does."""
    for loop in found.loops:
        logger.warning(f"loop dependency {loop}; tce-load loads them anyway")
