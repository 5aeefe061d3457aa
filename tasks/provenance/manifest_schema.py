# SPDX-License-Identifier: MIT
"""The schema of manifests: the inputs, tools, commands and outputs of an image.

The file is JSON; the dataclasses here are its schema, checked like that of profiles.  The same
build gives the same bytes: no times, no host or user names, no folders of the machine, all lists
in a fixed order.  A manifest holds no secrets: see tasks/provenance/redaction.py, and what is left
is searched before it is written.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.checks import secrets
from tasks.formats.iso_layout import File
from tasks.origins.lock import LockedArchive, LockedNeeds
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed

FORMAT = 1
MAX_SIZE = 256 << 20  # bytes; a manifest of 100,000 files has 25 MB
ENDING = ".manifest.json"


@dataclass(frozen=True)
class Input:
    """An input of the image, or of another extension of the checkout.

    kind: `deb` (an apt package), `mirror` (a file below the profile's mirrors), `tcz` (an
    upstream extension), `origin` (a file that a recipe locks), `image` (a container image's
    tar), `git` (a commit of a repository) or `local` (a kernel source or base config of the builder's own).
    name: as in the lock, of a commit the repository's address; origin: its source, without the host for
    `deb` (ARCHIVE: PATH), `mirror` and `tcz`, of a commit the ref that it was;
    version, tree: of a commit its ids; it has no sha256; source: of a commit the key that signed its tag;
    used_by: `kernel`, `core`, `iso` or names of extensions; size: in bytes.
    """

    kind: Literal["deb", "mirror", "tcz", "origin", "image", "git", "local"]
    name: str
    sha256: str
    size: int
    origin: str
    version: str = ""
    architecture: str = ""
    component: str = ""
    source: str = ""
    md5: str = ""
    deps: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    tree: str = ""


@dataclass(frozen=True)
class CheckoutFile:
    """A file of tcbuild's checkout that the image depends on; a symlink has `target`, no sha256."""

    path: str
    sha256: str = ""
    executable: bool = False
    target: str = ""


@dataclass(frozen=True)
class Tcbuild:
    """The tcbuild that built the image.

    commit: of git, "" if unknown; dirty: whether files differ from the commit; code: digest of
    its Python files.
    """

    commit: str
    dirty: bool
    code: str
    files: tuple[CheckoutFile, ...]


@dataclass(frozen=True)
class TreeUsed:
    """A tree that was used beside the checkout: its commit, and its files that the image depends on.

    commit, dirty: as of tcbuild; dirty looks at the folders alone in which names are looked up.
    files: with their paths in the tree.
    """

    commit: str
    dirty: bool
    files: tuple[CheckoutFile, ...]


@dataclass(frozen=True)
class Tools:
    """The tools: Debian and Python packages with versions, the kernel's toolchain.

    debian: of a pinned toolchain, its locked packages; otherwise those of the machine.
    served: what ran the toolchains' programs on this machine, and why.
    pinned: a line for each pinned toolchain that made bytes of the image: the profile's, the kernel's,
    those that programs of recipes are compiled with.
    """

    debian: dict[str, str]
    python: dict[str, str]
    toolchain: str
    served: str = ""
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProfileUsed:
    """The profile.

    variables: those of the command line; resolved: the profile with inherited and default values
    and with these variables applied.
    """

    name: str
    variables: dict[str, str]
    resolved: dict[str, object]


@dataclass(frozen=True)
class ArchiveMember:
    """A member of an archive.

    mode: as in `ls -l`, with `h` first for a hard link to the file `target`; owner: UID:GID;
    mtime: seconds since 1970; size and sha256: of a file's content; target: of a link;
    device: MAJOR:MINOR; xattrs: name -> sha256 of the value.  Bytes of names that are not UTF-8
    are surrogates.
    """

    path: str
    mode: str
    owner: str
    mtime: int
    size: int = 0
    sha256: str = ""
    target: str = ""
    device: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CoreArchive:
    """A cpio archive of the core; method: of compression; members: in order."""

    method: str
    members: tuple[ArchiveMember, ...]


@dataclass(frozen=True)
class Extension:
    """A .tcz on the image; size: in bytes; deps: from its .dep."""

    name: str
    size: int
    sha256: str
    deps: tuple[str, ...]
    members: tuple[ArchiveMember, ...]


@dataclass(frozen=True)
class Kernel:
    """The kernel: sizes in bytes; modules as `make modules_install` installed them.

    patches: a line for each patch of the series: `NAME: applied`, or why it was left out.
    """

    release: str
    config: File
    vmlinuz: File
    modules: tuple[File, ...]
    patches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """The image files and their content.

    images: the ISO, or the disk image in both formats; files: those of an ISO; outside: the areas
    of an ISO that belong to no file (tasks/formats/iso_layout.py).
    """

    images: tuple[File, ...]
    kernel: Kernel
    core: tuple[CoreArchive, ...]
    extensions: tuple[Extension, ...]
    files: tuple[File, ...] = ()
    outside: tuple[File, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images: expected at least one")


@dataclass(frozen=True)
class Manifest:
    """A manifest; `outputs` is absent before the build (`inputs.manifest.json`).

    commands: task -> the commands it ran, with folders as ${CHECKOUT}, ${OUTPUT}, ${CACHE},
    ${TMP}, ${TREE1} ...  archives: the parts of the suite that packages come from, with the dates of the
    lock.  needs: the packages of libraries, as in the lock.  trees: as `tree=` named them.
    """

    format: int
    profile: ProfileUsed
    tcbuild: Tcbuild
    inputs: tuple[Input, ...]
    tools: Tools
    config: str
    """sha256 of the checked .config; "" before the build."""
    commands: dict[str, tuple[str, ...]]
    outputs: Outputs | None = None
    archives: tuple[LockedArchive, ...] = ()
    needs: tuple[LockedNeeds, ...] = ()
    trees: tuple[TreeUsed, ...] = ()

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format: expected {FORMAT}, got {self.format} (made by another tcbuild)")


def to_json(manifest: Manifest) -> str:
    """Return a manifest as JSON, without fields that have their default."""
    return json.dumps(plain(manifest), indent=1, sort_keys=True) + "\n"


def plain(value: Any) -> Any:
    """Return dataclasses as dicts, without fields that have their default; other values as they are."""
    if dataclasses.is_dataclass(value):
        shown = {}
        for item in dataclasses.fields(value):
            found = getattr(value, item.name)
            default = item.default
            if item.default_factory is not dataclasses.MISSING:
                default = item.default_factory()
            if found != default:
                shown[item.name] = plain(found)
        return shown
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def write(path: Path, manifest: Manifest) -> None:
    """Write a manifest atomically; an equal file is left unchanged.

    Raises `UserError`, which names the key, if a value is a secret.
    """
    # materials.profile has searched the resolved profile by its own keys.
    used = dataclasses.replace(manifest.profile, resolved={})
    secrets.refuse_in_table(path.name, plain(dataclasses.replace(manifest, profile=used)))
    write_if_changed(path, to_json(manifest))


def load(path: Path) -> Manifest:
    """Return the manifest at `path`.  Raises `UserError` if there is none or it is malformed."""
    if not path.is_file():
        raise UserError(f"{path} does not exist", "run ./doit iso, which writes it, or name another manifest")
    if path.stat().st_size > MAX_SIZE:
        raise UserError(f"{path} is not a manifest: it has more than {MAX_SIZE >> 20} MiB")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> Manifest:
    """Return the manifest in `data`; errors call it `name`.  Raises `UserError` if it is malformed."""
    try:
        found = json.loads(data)
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a path of half a character: no file can have it
        raise UserError(f"{name} is not a manifest: it has a path that no file can have") from None
    except (ValueError, RecursionError):
        raise UserError(f"{name} is not a manifest: it is damaged or not JSON") from None
    loaded: Manifest = toml_schema.build(found, Manifest, name, "")
    return loaded
