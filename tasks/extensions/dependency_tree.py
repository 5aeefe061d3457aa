# SPDX-License-Identifier: MIT
"""`./doit tcz:tree`: the dependencies of extensions as a tree with sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.config import inputs, plan, recipe
from tasks.config.plan import Plan
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import tcz
from tasks.util.errors import UserError

PLACES = ("onboot", "copy2fs", "ondemand", "initrd")


def print_tree(paths: Paths, profile: Profile, names: Sequence[str]) -> None:
    """Print the dependencies of `names` with sizes; of all extensions of the profile if it is empty.

    Raises `UserError` for a name that neither the profile nor a recipe has.
    """
    lock = inputs.pinned_lock(paths)
    top = [plan.resolve_name(profile, name.removesuffix(".tcz")) for name in names]
    recipes = recipe.names()
    found = plan.plan(profile, lock, also=[name for name in top if name in recipes])
    for name in top:
        if name not in found.nodes and name not in found.missing:
            known = ", ".join(sorted({*found.nodes, *recipes})) or "none"
            raise UserError(f"profile {paths.name} has no extension {name!r}", f"it has: {known}")
    sizes = {item.name: item.size for item in lock.extension}
    for path in paths.tcz.glob("*.tcz"):
        sizes[path.name.removesuffix(".tcz")] = path.stat().st_size
    deps = _built_deps(paths, profile, found)
    for line in tree_lines(found, deps, top or plan.extensions_at(profile, *PLACES), sizes):
        print(line)


def _built_deps(paths: Paths, profile: Profile, found: Plan) -> dict[str, tuple[str, ...]]:
    """Return the dependencies by extension.  Those of module extensions come from their built .dep files."""
    deps = {name: node.deps for name, node in found.nodes.items()}
    for name in plan.module_extensions(profile):
        path = paths.tcz / f"{name}.tcz.dep"
        text = path.read_text() if path.is_file() else ""
        deps[name] = tuple(plan.resolve_name(profile, dep) for dep in tcz.parse_dep(text, str(path)))
    return deps


def tree_lines(
    found: Plan, deps: Mapping[str, Sequence[str]], top: Sequence[str], sizes: Mapping[str, int]
) -> list[str]:
    """Return the lines of the tree.

    A line is `NAME  SIZE  KIND`.  A branch that was printed before ends with `(again)`, and one that
    leads back to itself with `(circle)`.  top: the roots of the tree; sizes: known sizes in bytes.
    """
    lines: list[str] = []
    shown: dict[str, None] = {}

    def describe(name: str) -> str:
        kind: str = "not locked" if name in found.missing else "modules"
        if name in found.nodes:
            kind = found.nodes[name].kind
        return f"{name}  {size_text(sizes.get(name))}  {kind}"

    def branch(name: str, first: str, rest: str, path: tuple[str, ...]) -> None:
        needed = deps.get(name, ())
        if name in path:
            lines.append(f"{first}{name}  (circle)")
            return
        if name in shown and needed:
            lines.append(f"{first}{describe(name)}  (again)")
            return
        shown[name] = None
        lines.append(f"{first}{describe(name)}")
        for number, dep in enumerate(needed, start=1):
            last = number == len(needed)
            branch(
                dep,
                rest + ("`-- " if last else "|-- "),
                rest + ("    " if last else "|   "),
                (*path, name),
            )

    for name in top:
        branch(name, "", "", ())
    total = sum(sizes.get(name, 0) for name in shown)
    unknown = sum(name not in sizes for name in shown)
    more = f", {unknown} not built or fetched yet" if unknown else ""
    lines.append(f"{len(shown)} extensions, {size_text(total)}{more}")
    return lines


def size_text(size: int | None) -> str:
    """Return a size in bytes in the format of Tiny Core's .info files: 34K, 1.2M, or `-` for None."""
    if size is None:
        return "-"
    if size < 1 << 20:
        return f"{size / 1024:.0f}K" if size >= 1024 else f"{size}"
    return f"{size / (1 << 20):.1f}M"
