# SPDX-License-Identifier: MIT
"""A mirror: a flat, static tree of extensions for any web host or net drive.

    index.html              a page to browse and search the mirror
    SHA256SUMS              the sums of all other files, for `sha256sum -c`
    latest-ARCH             the release, as `version -c` reads it
    RELEASE.x/ARCH/tcz/     extensions, their side files, and the databases
    images/                 the profile's container images, and images.lst (tasks/image/container_images.py)

getMirror of Tiny Core's /etc/init.d/tc-functions appends `RELEASE.x/ARCH/tcz` to the address in
/opt/tcemirror, so tce-load and the other tools find the files there.  Tiny Core's own scripts
(Core-scripts, usr/bin) define the formats of the databases:

    info.lst      NAME.tcz, sorted                    the graphical browsers
    md5.db        HASH  NAME.tcz, as in .md5.txt      tce-update, update-everything
    sizelist      NAME.tcz BYTES                      tce-size
    tags.db       NAME.tcz TAG...                     search.sh
    dep.db        NAME.tcz, its deps, an empty line   depends-on.sh, update-everything
    provides.db   NAME.tcz, its paths, an empty line  provides.sh

Each database has a copy packed by gzip, which most of the scripts download.  Tiny Core's mirrors
also have `.tree` files, which repeat the .dep files, and `.zsync` files, which make updates
smaller.  This mirror has neither, and the tools work without them.  (Tiny Core's own tce-size
then counts an extension without its dependencies; the one in rootfs/ reads dep.db.)
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from tasks.checks import secrets
from tasks.config import mirror_layout, plan
from tasks.config.architecture import Architecture
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.extensions.build import base_root
from tasks.formats import compression, tcz
from tasks.formats.initramfs_unpacker import RootFs
from tasks.image import container_images, mirror_page
from tasks.image.mirror_page import Image, MirrorExtension
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, sha256_file
from tasks.util.log import logger

VERSION = re.compile(r'^VERSION_ID="?((\d+)(\.\d+)*)"?\s*$', re.MULTILINE)
THIRTY_TWO_BITS = "x86"  # what getBuild falls back to
FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*):\s*(.*)")


def build(paths: Paths, profile: Profile, names: Sequence[str]) -> None:
    """Write artifacts/PROFILE/mirror/ atomically.  The same inputs give the same bytes and times.

    names: the built extensions, without .tcz.  Raises `UserError` if one is missing or damaged,
    if the mirror would lack a dependency, if the profile's root asks a mirror for another
    folder, if a container image has changed since its check, or for a secret in the page.
    """
    secrets.refuse_in_table(f"profile {paths.name}", {"description": profile.description})
    version, folder = release_of(base_root(paths, profile), profile.architecture)
    declared = mirror_layout.mirror_folder(profile)
    if folder != declared:
        raise UserError(
            f"the root asks a mirror for {folder}, the profile says {declared}",
            f"set tcz = {folder!r} in profiles/{paths.name}.toml",
        )
    entries = [entry(paths, profile, name) for name in sorted(names)]
    _refuse_missing_dependencies(entries)
    top = mirror_layout.mirror(paths)
    with atomic_dir(top) as tree:
        target = tree / folder
        target.mkdir(parents=True)
        for item in entries:
            for file in item.files:
                shutil.copyfile(paths.tcz / file, target / file)
            if sha256_file(target / f"{item.name}.tcz") != item.sha256:
                raise UserError(f"{item.name}.tcz changed while it was copied", "run the same command again")
        for name, text in databases(entries).items():
            (target / name).write_bytes(text)
            (target / f"{name}.gz").write_bytes(compression.compress(text, "gzip"))
        (tree / f"latest-{folder.split('/')[1]}").write_text(f"{version}\n")
        container_images.copy_images(paths, profile, tree)
        page = mirror_page.page(profile.description, folder, entries, listed_images(tree))
        secrets.refuse_in_text("the mirror", {"index.html": page, **databases(entries)})
        (tree / "index.html").write_bytes(page)
        (tree / "SHA256SUMS").write_text(_sha256sums(tree))
        _normalize(tree, profile.source_date_epoch)
    size = sum(path.stat().st_size for path in top.rglob("*") if path.is_file())
    carried = f", images: {len(profile.images)}" if profile.images else ""
    logger.info(f"{top}: {len(entries)} extensions{carried}, {size:,} bytes")


def listed_images(tree: Path) -> list[Image]:
    """Return the container images that images/images.lst of the mirror `tree` lists."""
    folder = tree / container_images.FOLDER
    images_list = folder / container_images.LIST
    found = container_images.parse_list(images_list.read_text()) if images_list.is_file() else []
    return [
        Image(item.name, item.file, (folder / item.file).stat().st_size, item.sha256, item.digest)
        for item in found
    ]


def release_of(root: RootFs, architecture: Architecture) -> tuple[str, str]:
    """Return the release of `root` and the folder RELEASE.x/ARCH/tcz that its tools ask a mirror for.

    The rules are those of getFullVer, getMajorVer and getBuild of tc-functions.  On a 64-bit kernel,
    getBuild looks for ld.so in /lib: a 32-bit root has another one.
    Raises `UserError` if etc/os-release of the root has no VERSION_ID.
    """
    node = root.find("etc/os-release", follow=True)
    found = VERSION.search(node.data.decode(errors="replace")) if node else None
    if not found:
        raise UserError(
            "the root does not say which release it is, so tcbuild can make no mirror for it",
            "its /etc/os-release needs a line VERSION_ID=MAJOR.MINOR",
        )
    loader = f"lib/{PurePosixPath(architecture.loader).name}"
    arch = architecture.mirror if root.find(loader, follow=True) else THIRTY_TWO_BITS
    return found[1], f"{found[2]}.x/{arch}/tcz"


def entry(paths: Paths, profile: Profile, name: str) -> MirrorExtension:
    """Return the mirror's entry for a built extension.

    Raises `UserError` if it is not built, or if its .md5.txt has another sum.
    """
    path = paths.tcz / f"{name}.tcz"
    if not path.is_file():
        raise UserError(f"{path} does not exist", f"./doit tcz:{tcz.name_of_task(name)}")
    content = path.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    recorded = _text(path, ".md5.txt")
    if recorded != md5_line(name, md5):
        expected = recorded.split(" ")[0] or "nothing"
        raise UserError(
            f"{path.name} and its .md5.txt do not agree: {md5}, expected {expected}",
            f"remove {path} and run the same command again",
        )
    deps = tcz.parse_dep(_text(path, ".dep"), f"{path}.dep")
    # update-everything expects every extension with a .dep in dep.db and treats an empty .dep as
    # a leftover.  So an extension without dependencies has no .dep, as on Tiny Core's mirrors.
    files = [file for file in tcz.file_names(name) if deps or not file.endswith(".dep")]
    return MirrorExtension(
        name=name,
        size=len(content),
        md5=md5,
        sha256=hashlib.sha256(content).hexdigest(),
        deps=deps,
        needs=tuple(plan.resolve_name(profile, dep) for dep in deps),
        info=info_fields(_text(path, ".info")),
        paths=tuple(line.removeprefix("/") for line in _text(path, ".list").split("\n") if line),
        files=tuple(file for file in files if (paths.tcz / file).is_file()),
    )


def info_fields(text: str) -> dict[str, str]:
    """Return the fields of a .info file by label.

    A field is `Label:`, white space and the value.  A line that begins with white space
    continues the value.
    """
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

    It is `md5sum` output with two spaces: tce-update compares it with the whole .md5.txt and
    writes it there.  The tools find the line by `grep -w " NAME.tcz"`.
    """
    return f"{md5}  {name}.tcz\n"


def databases(entries: Iterable[MirrorExtension]) -> dict[str, bytes]:
    """Return the databases by file name.  The module's docstring lists their formats.

    search.sh splits a line of tags.db at white space.  provides.sh and depends-on.sh read
    paragraphs (awk, `FS="\\n"; RS=""`) whose first line is the extension.  tce-size takes the
    second word of the line that `grep -w "^NAME.tcz"` finds in sizelist.  dep.db leaves out
    extensions without dependencies.
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


def _refuse_missing_dependencies(entries: Sequence[MirrorExtension]) -> None:
    """Raise `UserError` if an extension depends on one that the mirror does not have."""
    names = {item.name for item in entries}
    missing = [
        f"{item.name}.tcz needs {dep}.tcz" for item in entries for dep in item.needs if dep not in names
    ]
    if missing:
        more = "\n".join(f"  {line}" for line in missing[1:])
        raise UserError(
            f"the mirror would lack an extension: {missing[0]}", "./doit lock, then ./doit tcz", more
        )


def _text(tcz_path: Path, ending: str) -> str:
    path = Path(f"{tcz_path}{ending}")
    return path.read_bytes().decode(errors="surrogateescape") if path.is_file() else ""


def _sha256sums(tree: Path) -> str:
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    return "".join(f"{sha256_file(tree / file)}  {file}\n" for file in files)


def _normalize(tree: Path, epoch: int) -> None:
    """Set one time for all (a folder after its content) and modes that a web server can read."""
    for path in [*tree.rglob("*"), tree]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))
