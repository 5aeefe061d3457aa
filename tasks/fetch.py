"""The fetch stage: the only one that uses the network.

Everything a profile is made from is brought into the cache and verified; what
was used, byte for byte, is written to the used lock (`artifacts/PROFILE/lock.toml`),
and later stages find their inputs by that lock alone.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from contextlib import suppress
from pathlib import Path

from tasks import apt, ondemand, parallel, sourcetree, tce
from tasks.errors import UserError
from tasks.files import atomic_dir, scratch_folder, sha256_file, write_atomic, write_if_changed
from tasks.profile import (
    Lock,
    LockedExtension,
    LockedFile,
    LockedPackage,
    Profile,
    Settings,
    Source,
    load_lock,
)
from tasks.run import ROOT, say
from tasks.unpack import unpack_tar


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


def fetch(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Bring every input of the profile, and the apt packages `extra`, into the cache.

    Writes the used lock.  With the pinned lock's files in the cache, neither apt
    nor the network is asked.  With a shared cache, what is locked is not fetched before a
    stage asks for it: perhaps none does.  Raises `UserError` if an input cannot be had or is
    not the locked one.
    """
    if settings.relock:
        raise UserError("relock=1 changes what is locked, and fetch never does", "./doit lock relock=1")
    pinned = load_lock(settings.pinned_lock)
    locked = _locked_already(settings, pinned, extra) if settings.shared_cache else None
    if settings.offline and not settings.frozen:
        pinned = _prefer_cached(pinned, load_lock(settings.used_lock), settings.cache)
    used = locked or _gather(settings, pinned, extra)
    write_if_changed(settings.used_lock, used.to_toml())
    if locked:
        count = len(used.package) + len(used.file)
        say(f"fetch: {count} packages and files are locked, and fetched when something must be made of them")
        return
    counts = {
        "packages": len(used.package),
        "files": len(used.file),
        "upstream extensions": len(used.extension),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    say(f"fetched: {said or 'nothing'} ({settings.used_lock})")


def lock(settings: Settings, extra: tuple[str, ...] = ()) -> None:
    """Make the newest packages, and what nobody has verified yet, the profile's pinned lock.

    Files and extensions below mirrors that are locked stay so; `relock` takes what the
    mirrors serve now, and packages older than the locked ones.  Raises `UserError` as
    `fetch` does, and with `offline`.
    """
    if settings.offline:
        raise UserError("lock asks for the newest versions, which offline=1 forbids", "leave out offline=1")
    from tasks import learn

    old = load_lock(settings.pinned_lock)
    paths = [source.path for source in sources(settings.profile) if source.kind == "http"]
    learned = learn.learn(settings, paths, old)
    new = _gather(dataclasses.replace(settings, frozen=False), learned, extra)
    if not settings.relock:
        _refuse_older(settings.profile, old, new)
    before = {package.name: package.version for package in old.package}
    for package in new.package:
        if before.get(package.name) != package.version:
            say(f"lock: {package.name} {before.get(package.name, '(new)')} -> {package.version}")
    write_if_changed(settings.used_lock, new.to_toml())
    write_if_changed(settings.own_lock, new.to_toml())


def _refuse_older(profile: Profile, old: Lock, new: Lock) -> None:
    """Raise `UserError` if a package, or what a pattern stands for, has gone backwards."""
    before = {package.name: package for package in old.package}
    pairs = [(before.get(package.name), package) for package in new.package]
    patterns = [source.package for source in sources(profile) if source.kind == "apt"]
    pairs += [(_match(pattern, old), found) for pattern in patterns if (found := _match(pattern, new))]
    for locked, found in pairs:
        if locked is not None:
            apt.refuse_older(found.name, locked.version, found.version)


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
    ondemand.bring(settings, packages.values())
    return found


def source_file(settings: Settings, source: Source) -> Path:
    """Return the fetched file of `source` (for kind `apt` the .deb); no network.

    Raises `UserError` if it was not fetched.
    """
    if source.kind == "file":
        return _local(source)
    entry = _entry(source, used_lock(settings))
    ondemand.bring(settings, [entry])
    return entry.cached_in(settings.cache)


def is_tree(source: Source) -> bool:
    """Tell whether `source` is a tree of this machine, which may be edited in place at any time."""
    return source.kind == "file" and _local(source).is_dir()


def linux_identity(settings: Settings) -> str:
    """Return the line in `.tcbuild/source` of an archive's tree, without reading what was fetched."""
    source = settings.profile.kernel.source
    if source.kind == "file":
        path = _local(source)
        return f"{path.name} {sha256_file(path)}\n"
    entry = _entry(source, used_lock(settings))
    return f"{entry.cached_in(settings.cache).name} {entry.sha256}\n"


def unpack_linux(settings: Settings) -> None:
    """Make `settings.linux` a fresh kernel source tree from the fetched source.

    The source is a linux-source .deb (it holds usr/src/linux-source-X.tar.xz), a
    tar archive, or, for kind `file`, a tree that is copied.  What it was stands in
    `.tcbuild/source` of the tree; the same source is not unpacked again, so that
    patches and mtimes stay, and of a tree edits are taken over.  Raises `UserError` if
    there is no kernel tree in it.
    """
    origin = source_file(settings, settings.profile.kernel.source)
    if origin.is_dir():
        _refuse_unless_kernel(origin, origin)
        sourcetree.sync(settings, origin)
        return
    stamp = Path(".tcbuild") / "source"
    identity = f"{origin.name} {sha256_file(origin)}\n"
    with suppress(OSError):
        if (settings.linux / stamp).read_text() == identity:
            return
    with scratch_folder(settings.output, ".linux-") as scratch:
        archive = origin
        if origin.suffix == ".deb":
            apt.unpack_deb(origin, scratch / "deb")
            archive = _tar_in_deb(scratch / "deb", origin)
        unpack_tar(archive, scratch / "tree", label=archive.name)
        tree = _top(scratch / "tree")
        _refuse_unless_kernel(tree, origin)
        write_atomic(tree / stamp, identity)
        with atomic_dir(settings.linux) as folder:
            os.replace(tree, folder)


def _gather(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock:
    """Fetch everything and return it as a lock.  What is not locked is refused before the first byte."""
    wanted = sources(settings.profile)
    files = [_pinned_file(settings, pinned, source) for source in wanted if source.kind == "http"]
    local = [_pinned_local(pinned, source) for source in wanted if source.kind == "file"]
    extensions = _pinned_extensions(settings, pinned)
    names = [*settings.profile.core.packages, *extra]
    names += [_resolve(settings, pinned, source.package) for source in wanted if source.kind == "apt"]
    packages = apt.fetch_packages(
        names,
        pinned=pinned,
        frozen=settings.frozen,
        offline=settings.offline,
        cache=settings.cache,
        say=say,
    )
    tcz = settings.profile.tcz.strip("/")
    remote: list[tuple[str, LockedFile | LockedExtension]] = [(file.path, file) for file in files]
    remote += [(f"{tcz}/{item.name}.tcz", item) for item in extensions]
    parallel.each(lambda one: ondemand.from_mirrors(settings, *one), remote)
    known = {file.path: file for file in [*files, *(file for file in local if file)]}
    return Lock(tuple(package for package, _ in packages), tuple(known.values()), extensions)


def _locked_already(settings: Settings, pinned: Lock, extra: tuple[str, ...]) -> Lock | None:
    """Return the lock that fetching ends with if all that is pinned can be had, or None; fetch the rest."""
    wanted = sources(settings.profile)
    patterns = [source.package for source in wanted if source.kind == "apt"]
    sources_of = [_match(pattern, pinned) for pattern in patterns]
    if None in sources_of or tce.plan(settings.profile, pinned).of_kind("upstream"):
        return None
    files = [_pinned_file(settings, pinned, source) for source in wanted if source.kind == "http"]
    local = [_pinned_local(pinned, source) for source in wanted if source.kind == "file"]
    known = {file.path: file for file in [*files, *(file for file in local if file)]}
    pins = {package.name: package for package in pinned.package}
    names = {*settings.profile.core.packages, *extra}
    packages = {entry.name: entry for entry in sources_of if entry}
    packages |= {name: pins[name] for name in names if name in pins}
    unlocked = apt.fetch_packages(
        names - pins.keys(),
        pinned=pinned,
        frozen=settings.frozen,
        offline=settings.offline,
        cache=settings.cache,
        say=say,
    )
    packages |= {package.name: package for package, _ in unlocked}
    return Lock(tuple(packages.values()), tuple(known.values()))


def _pinned_extensions(settings: Settings, pinned: Lock) -> tuple[LockedExtension, ...]:
    """Return the upstream extensions of the profile as locked."""
    found = tce.plan(settings.profile, pinned)
    for name, wanted_by in found.missing.items():
        message = f"no sha256 is locked for extension {name}, which {wanted_by} of {settings.name} wants"
        raise UserError(message, f"./doit lock profile={settings.name}")
    tce.tell_loops(found)
    locked = {item.name: item for item in pinned.extension}
    return tuple(locked[name] for name in sorted(found.of_kind("upstream")))


def _pinned_file(settings: Settings, pinned: Lock, source: Source) -> LockedFile:
    entry = _file_entry(source.path, pinned)
    if entry is None:
        hint = f"./doit lock profile={settings.name}"
        raise UserError(f"no sha256 is locked for {source.path} of profile {settings.name}", hint)
    return entry


def _pinned_local(pinned: Lock, source: Source) -> LockedFile | None:
    """Return the lock's entry for a file of this machine; None for a tree, which has no one hash."""
    path = _local(source)
    if path.is_dir():
        return None
    entry = LockedFile(source.path, sha256_file(path))
    locked = _file_entry(source.path, pinned)
    if locked is not None and locked != entry:
        message = f"{path}: expected sha256 {locked.sha256}, got {entry.sha256}"
        raise UserError(message, "./doit lock takes it as it is now")
    return entry


def _resolve(settings: Settings, pinned: Lock, pattern: str) -> str:
    """Return the package a pattern stands for: the locked one while it can be had, else the newest."""
    locked = _match(pattern, pinned)
    if locked is not None and (
        settings.frozen
        or settings.offline
        or apt.is_cached(locked, settings.cache)
        or apt.offered([locked.name])
    ):
        return locked.name
    if settings.frozen:
        raise UserError(f"frozen=1, but no version is locked for {pattern}", "./doit lock")
    if settings.offline:
        raise UserError(f"nothing in the cache is known to match {pattern}", "run once without offline=1")
    name, version = apt.newest(pattern)
    if locked is not None:
        apt.refuse_older(pattern, locked.version, version)
        say(f"{locked.name} {locked.version} -> {name} {version} (the locked package is no longer offered)")
    return name


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


def _prefer_cached(pinned: Lock, used: Lock, cache: Path) -> Lock:
    """Return `pinned`, with what the last fetch used in place of packages the cache does not hold.

    A fetch that had to leave the pinned version can so be repeated offline.
    """
    held = {package.name: package for package in used.package if apt.is_cached(package, cache)}
    kept = {package.name: package for package in pinned.package if apt.is_cached(package, cache)}
    return dataclasses.replace(pinned, package=tuple((held | kept).values()))


def _local(source: Source) -> Path:
    path = ROOT / source.path
    if not path.exists():
        raise UserError(f"{path} does not exist", "check the path in the profile")
    return path


def _tar_in_deb(unpacked: Path, deb: Path) -> Path:
    found = sorted((unpacked / "usr/src").glob("linux-source-*.tar.*"))
    if len(found) != 1:
        raise UserError(f"{deb.name} holds {len(found)} archives usr/src/linux-source-*.tar.*, expected one")
    return found[0]


def _top(folder: Path) -> Path:
    """Return the one folder in `folder` that holds all the rest, as in kernel archives, or itself."""
    inside = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _refuse_unless_kernel(tree: Path, origin: Path) -> None:
    if not all((tree / name).exists() for name in ("Makefile", "Kconfig", "arch")):
        raise UserError(f"{origin.name} holds no kernel source (Makefile, Kconfig, arch/)")
