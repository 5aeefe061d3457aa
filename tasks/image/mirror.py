"""A mirror: a flat, static tree of extensions for any web host or net drive.

    index.html              for people: browse and search
    SHA256SUMS              everything else in the tree, for `sha256sum -c`
    latest-ARCH             the release, as `version -c` reads it
    RELEASE.x/ARCH/tcz/     extensions with what lies beside them, and the databases
    images/                 the profile's container images, and images.lst (tasks/image/container_images.py)

`RELEASE.x/ARCH/tcz` is what getMirror of Tiny Core's /etc/init.d/tc-functions puts behind
the address in /opt/tcemirror, so tce-load and the other tools find all at its place.  The
formats are those that Tiny Core's own scripts (Core-scripts, usr/bin) read:

    info.lst      NAME.tcz, sorted                    the graphical browsers
    md5.db        HASH  NAME.tcz, as in .md5.txt      tce-update, update-everything
    sizelist      NAME.tcz BYTES                      tce-size
    tags.db       NAME.tcz TAG...                     search.sh
    dep.db        NAME.tcz, its deps, an empty line   depends-on.sh, update-everything
    provides.db   NAME.tcz, its paths, an empty line  provides.sh

All are there packed by gzip too, which is what most of them download.  `.tree` and
`.zsync` files, which Tiny Core's mirrors also have, are left out: they repeat what .dep
files say, and save bytes on updates.  Tools ask for them and do without (Tiny Core's own
tce-size then counts an extension without what it needs; the one in rootfs/ reads dep.db).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tasks.config import mirror_layout, plan
from tasks.config.settings import Settings
from tasks.extensions.build import base_root
from tasks.formats import compression, tcz
from tasks.formats.initramfs_unpacker import RootFs
from tasks.image import container_images, mirror_page
from tasks.image.mirror_page import Image, MirrorExtension
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, sha256_file
from tasks.util.log import logger

VERSION = re.compile(r'^VERSION_ID="?((\d+)(\.\d+)*)"?\s*$', re.MULTILINE)
LOADER = "lib/ld-linux-x86-64.so.2"
FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*):\s*(.*)")


def build(settings: Settings, names: Sequence[str]) -> None:
    """Write `artifacts/PROFILE/mirror/`, whole or not at all.  Same inputs, same bytes and times.

    names: the extensions, without .tcz, built before.  Raises `UserError` if one is missing
    or damaged, if one depends on what the mirror would not have, if the profile's root would
    look for them elsewhere, or if a container image is no longer what was checked.
    """
    version, folder = release_of(base_root(settings))
    declared = mirror_layout.mirror_folder(settings.profile)
    if folder != declared:
        raise UserError(
            f"the root asks a mirror for {folder}, the profile says {declared}",
            f"set tcz = {folder!r} in profiles/{settings.name}.toml",
        )
    entries = [entry(settings, name) for name in sorted(names)]
    _refuse_missing(entries)
    top = mirror_layout.mirror(settings)
    with atomic_dir(top) as tree:
        target = tree / folder
        target.mkdir(parents=True)
        for item in entries:
            for file in item.files:
                shutil.copyfile(settings.tcz / file, target / file)
            if sha256_file(target / f"{item.name}.tcz") != item.sha256:
                raise UserError(f"{item.name}.tcz changed while it was copied", "run the same command again")
        for name, text in databases(entries).items():
            (target / name).write_bytes(text)
            (target / f"{name}.gz").write_bytes(compression.compress(text, "gzip"))
        (tree / f"latest-{folder.split('/')[1]}").write_text(f"{version}\n")
        container_images.lay_out(settings, tree)
        page = mirror_page.page(settings.profile.description, folder, entries, carried_images(tree))
        (tree / "index.html").write_bytes(page)
        (tree / "SHA256SUMS").write_text(_sums(tree))
        _normalize(tree, settings.profile.source_date_epoch)
    size = sum(path.stat().st_size for path in top.rglob("*") if path.is_file())
    carried = f", images: {len(settings.profile.images)}" if settings.profile.images else ""
    logger.info(f"{top}: {len(entries)} extensions{carried}, {size:,} bytes")


def carried_images(tree: Path) -> list[Image]:
    """Return the container images in `tree`, as its images/images.lst has them."""
    folder = tree / container_images.FOLDER
    listed = folder / container_images.LIST
    found = container_images.parse_list(listed.read_text()) if listed.is_file() else []
    return [
        Image(item.name, item.file, (folder / item.file).stat().st_size, item.sha256, item.digest)
        for item in found
    ]


def release_of(root: RootFs) -> tuple[str, str]:
    """Return the release and the folder `RELEASE.x/ARCH/tcz` that a root's tools ask a mirror for.

    By getFullVer, getMajorVer and getBuild of tc-functions, on a 64-bit kernel.
    Raises `UserError` if the root does not say its release.
    """
    node = root.find("etc/os-release", follow=True)
    found = VERSION.search(node.data.decode(errors="replace")) if node else None
    if not found:
        raise UserError(
            "the root does not say which release it is, so no mirror can be made for it",
            "its /etc/os-release needs a line VERSION_ID=MAJOR.MINOR",
        )
    arch = "x86_64" if root.find(LOADER, follow=True) else "x86"
    return found[1], f"{found[2]}.x/{arch}/tcz"


def entry(settings: Settings, name: str) -> MirrorExtension:
    """Return what the mirror says of a built extension.

    Raises `UserError` if it is not built, or not what its .md5.txt says.
    """
    path = settings.tcz / f"{name}.tcz"
    if not path.is_file():
        raise UserError(f"{path} does not exist", f"./doit tcz:{name}")
    content = path.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    said = _text(path, ".md5.txt")
    if said != md5_line(name, md5):
        raise UserError(
            f"{path.name} and its .md5.txt do not agree: {md5}, expected {said.split(' ')[0] or 'nothing'}",
            f"remove {path} and run the same command again",
        )
    deps = tcz.parse_dep(_text(path, ".dep"), f"{path}.dep")
    # Most of Tiny Core's extensions depend on none and have no .dep; an empty one would be
    # taken for a leftover by update-everything, which expects it in dep.db.
    files = [file for file in tcz.file_names(name) if deps or not file.endswith(".dep")]
    return MirrorExtension(
        name=name,
        size=len(content),
        md5=md5,
        sha256=hashlib.sha256(content).hexdigest(),
        deps=deps,
        needs=tuple(plan.resolve_name(settings.profile, dep) for dep in deps),
        info=info_fields(_text(path, ".info")),
        paths=tuple(line.removeprefix("/") for line in _text(path, ".list").split("\n") if line),
        files=tuple(file for file in files if (settings.tcz / file).is_file()),
    )


def info_fields(text: str) -> dict[str, str]:
    """Return the fields of a .info file: `Label:`, white space, the value, which may go on
    in lines that begin with white space."""
    fields: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        found = FIELD.fullmatch(line)
        if found:
            label = found[1]
            fields[label] = found[2].strip()
        elif label and line[:1].isspace() and line.strip():
            fields[label] = f"{fields[label]}\n{line.strip()}".lstrip("\n")
    return fields


def md5_line(name: str, md5: str) -> str:
    """Return an extension's line in md5.db.

    tce-update compares it with the whole of .md5.txt and writes it there, so it is
    `md5sum` output with its two spaces; `grep -w " NAME.tcz"` finds it.
    """
    return f"{md5}  {name}.tcz\n"


def databases(entries: Iterable[MirrorExtension]) -> dict[str, bytes]:
    """Return the databases by file name, in the formats the module's head lists.

    search.sh takes a line of tags.db apart at white space; provides.sh and depends-on.sh
    read paragraphs (awk, `FS="\\n"; RS=""`) whose first line is the extension; tce-size
    takes the second word of the line that `grep -w "^NAME.tcz"` finds in sizelist.
    Extensions that depend on none are not in dep.db.
    """
    lines: dict[str, Callable[[MirrorExtension], str]] = {
        "info.lst": lambda item: f"{item.name}.tcz\n",
        "md5.db": lambda item: md5_line(item.name, item.md5),
        "sizelist": lambda item: f"{item.name}.tcz {item.size}\n",
        "tags.db": lambda item: " ".join((f"{item.name}.tcz", *item.info.get("Tags", "").split())) + "\n",
        "dep.db": lambda item: _paragraph(item.name, [f"{dep}.tcz" for dep in item.deps]),
        "provides.db": lambda item: _paragraph(item.name, item.paths),
    }
    items = list(entries)
    return {name: "".join(map(line, items)).encode(errors="surrogateescape") for name, line in lines.items()}


def _paragraph(name: str, lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in (f"{name}.tcz", *lines, "")) if lines else ""


def _refuse_missing(entries: Sequence[MirrorExtension]) -> None:
    """Raise `UserError` if tce-load would be sent for what is not there."""
    there = {item.name for item in entries}
    lacking = [
        f"{item.name}.tcz needs {dep}.tcz" for item in entries for dep in item.needs if dep not in there
    ]
    if lacking:
        more = "\n".join(f"  {line}" for line in lacking[1:])
        raise UserError(
            f"the mirror would lack an extension: {lacking[0]}", "./doit lock, then ./doit tcz", more
        )


def _text(tcz_path: Path, ending: str) -> str:
    path = Path(f"{tcz_path}{ending}")
    return path.read_bytes().decode(errors="surrogateescape") if path.is_file() else ""


def _sums(tree: Path) -> str:
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    return "".join(f"{sha256_file(tree / file)}  {file}\n" for file in files)


def _normalize(tree: Path, epoch: int) -> None:
    """Give all the same time, folders after what they hold, and modes a web server can read."""
    for path in [*tree.rglob("*"), tree]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))
