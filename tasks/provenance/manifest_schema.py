"""A manifest: what an image was made of, with what, how, and what came out.

The file is JSON; the dataclasses here are its schema, checked as profiles are.  The same
build gives the same bytes: no times, host or user names, no folders of the machine, and all
lists in a fixed order.  It holds no secrets: see `tasks.masking`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.formats.iso_layout import File
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed

FORMAT = 1
LARGEST = 256 << 20  # bytes; one of 100,000 files has 25 MB
ENDING = ".manifest.json"


@dataclass(frozen=True)
class Input:
    """One thing that the image, or another extension of the checkout, was made from.

    kind: `deb` (an apt package), `mirror` (a file below the profile's mirrors), `tcz` (an
    upstream extension), `origin` (a file that a recipe locks), `image` (a container image's
    tar) or `local` (a kernel source or base config of the builder's own).
    name: what a lock calls it; origin: where it is from, without the host for `deb` and
    below mirrors; used_by: `kernel`, `core`, `iso` or extensions' names; size: bytes.
    """

    kind: Literal["deb", "mirror", "tcz", "origin", "image", "local"]
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


@dataclass(frozen=True)
class CheckoutFile:
    """A file of tcbuild's checkout that went in; of a symlink, `target` instead of sha256."""

    path: str
    sha256: str = ""
    executable: bool = False
    target: str = ""


@dataclass(frozen=True)
class Tcbuild:
    """Which tcbuild: its git commit ("" if unknown), whether files differ from it, its code's digest."""

    commit: str
    dirty: bool
    code: str
    files: tuple[CheckoutFile, ...]


@dataclass(frozen=True)
class Tools:
    """What the machine brought: Debian and Python packages with versions, the kernel's toolchain."""

    debian: dict[str, str]
    python: dict[str, str]
    toolchain: str


@dataclass(frozen=True)
class ProfileUsed:
    """The profile with all it inherits, defaults filled in and the command line's variables applied."""

    name: str
    variables: dict[str, str]
    resolved: dict[str, object]


@dataclass(frozen=True)
class ArchiveMember:
    """A member of an archive.

    mode: as `ls -l` has it, `h` first for a further name of the file `target`; owner: UID:GID;
    mtime: seconds since 1970; size and sha256: of a file's content; target: a link's;
    device: MAJOR:MINOR; xattrs: name -> sha256 of the value.  Bytes of names that are not
    UTF-8 stand as surrogates.
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
    """One cpio archive of the core, in order, and how it is compressed."""

    method: str
    members: tuple[ArchiveMember, ...]


@dataclass(frozen=True)
class Extension:
    """A .tcz on the image; deps: as its .dep says."""

    name: str
    size: int
    sha256: str
    deps: tuple[str, ...]
    members: tuple[ArchiveMember, ...]


@dataclass(frozen=True)
class Kernel:
    """The kernel: sizes in bytes; modules as `make modules_install` installed them."""

    release: str
    config: File
    vmlinuz: File
    modules: tuple[File, ...]


@dataclass(frozen=True)
class Outputs:
    """What came out: the image files themselves, then what is in them.

    images: the ISO, or the disk image in its formats; files: what an ISO holds;
    outside: the ISO's bytes that belong to no file (tasks/formats/iso_layout.py names the areas).
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
    """All of it; `outputs` is absent while nothing is built yet (`inputs.manifest.json`).

    commands: task -> the programs it ran, folders as ${CHECKOUT}, ${OUTPUT}, ${CACHE}, ${TMP}.
    """

    format: int
    profile: ProfileUsed
    tcbuild: Tcbuild
    inputs: tuple[Input, ...]
    tools: Tools
    config: str
    """sha256 of the proven .config; "" before there is one."""
    commands: dict[str, tuple[str, ...]]
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format: expected {FORMAT}, got {self.format} (made by another tcbuild)")


def to_json(manifest: Manifest) -> str:
    """Return a manifest as JSON; what is empty by default is left out."""
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
    """Write a manifest, whole or not at all; an equal one is left alone."""
    write_if_changed(path, to_json(manifest))


def load(path: Path) -> Manifest:
    """Return the manifest at `path`.  Raises `UserError` if there is none or it is malformed."""
    if not path.is_file():
        raise UserError(f"{path} does not exist", "./doit iso writes it; or say which one")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} is no manifest: it has more than {LARGEST >> 20} MiB")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> Manifest:
    """Return the manifest in `data`; `name` is what errors call it.  Raises `UserError`."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise UserError(f"{name} is no manifest: it is damaged, or no JSON at all") from None
    loaded: Manifest = toml_schema.build(found, Manifest, name, "")
    return loaded
