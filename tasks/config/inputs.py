"""The inputs of a profile, as the last fetch left them in the cache."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Settings
from tasks.config.sources import Source
from tasks.fetch import on_demand
from tasks.origins.lock import Lock, LockedFile, LockedPackage, load_lock
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError


def sources(profile: Profile) -> list[Source]:
    """Return where the kernel, its base config, the core's archives and fetched images come from."""
    base = profile.kernel.base
    return [
        profile.kernel.source,
        *([base] if isinstance(base, Source) else []),
        *profile.core.archives,
        # One that is a file of this machine may change at any time: its digest can be declared.
        *(image.source for image in profile.images if image.source.kind == "http"),
    ]


def used_lock(settings: Settings) -> Lock:
    """Return what the last fetch used.  Raises `UserError` if nothing was fetched yet."""
    if not settings.used_lock.exists():
        raise UserError(f"nothing was fetched yet for profile {settings.name}", "./doit fetch")
    return load_lock(settings.used_lock)


def package_files(settings: Settings, extra: tuple[str, ...] = ()) -> dict[str, Path]:
    """Return the .deb of every package in the used lock, by package name; no network.

    The kernel's source is none of them.  Raises `UserError` if one of them, a package of
    the core or of `extra` is not there.
    """
    packages = {package.name: package for package in used_lock(settings).package}
    source = settings.profile.kernel.source
    if source.kind == "apt":  # `source_file` has it, and it is the largest by far
        packages = {
            n: package for n, package in packages.items() if not fnmatch.fnmatchcase(n, source.package)
        }
    found = {name: package.cached_in(settings.cache) for name, package in packages.items()}
    for name in (*settings.profile.core.packages, *extra):
        if name not in found:
            raise UserError(f"package {name} was not fetched yet", "./doit fetch")
    on_demand.bring(settings, packages.values())
    return found


def source_file(settings: Settings, source: Source) -> Path:
    """Return the fetched file of `source` (for kind `apt` the .deb); no network.

    Raises `UserError` if it was not fetched.
    """
    if source.kind == "file":
        return _local(source)
    entry = _entry(source, used_lock(settings))
    on_demand.bring(settings, [entry])
    return entry.cached_in(settings.cache)


def _match(pattern: str, known: Lock) -> LockedPackage | None:
    found = [package for package in known.package if fnmatch.fnmatchcase(package.name, pattern)]
    if len(found) > 1:
        names = ", ".join(package.name for package in found)
        raise UserError(f"{pattern} matches several locked packages: {names}", "use a narrower pattern")
    return found[0] if found else None


def _entry(source: Source, used: Lock) -> LockedPackage | LockedFile:
    entry = _match(source.package, used) if source.kind == "apt" else _file_entry(source.path, used)
    if entry is None:
        raise UserError(f"{source.package or source.path} was not fetched yet", "./doit fetch")
    return entry


def _file_entry(path: str, known: Lock) -> LockedFile | None:
    return next((file for file in known.file if file.path == path), None)


def _local(source: Source) -> Path:
    path = ROOT / source.path
    if not path.exists():
        raise UserError(f"{path} does not exist", "check the path in the profile")
    return path
