# SPDX-License-Identifier: MIT
"""The copy of a kernel tree that its owner edits: it has the sources of the original, and no products.

The tree is copied once.  Later runs copy only files whose content changed, so that `make`
compiles only what depends on them.  What is recorded is what was copied: an edit made meanwhile is
found by the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from tasks.config.kernel_source import STAMP
from tasks.config.settings import Paths
from tasks.kernel import edited_tree, patches
from tasks.kernel.edited_tree import (
    CONFIGURATION,
    PENDING,
    STATES,
    Summary,
    content_digest,
    is_built_in_place,
    leads_out,
    read_texts,
    seen_or_scan,
    unusable,
    write_texts,
)
from tasks.util.errors import ToolMissing, UserError
from tasks.util.files import (
    atomic_dir,
    remove_tree,
    remove_with_empty_folders,
    write_atomic,
    write_if_changed,
)
from tasks.util.log import logger
from tasks.util.process import run

CONTENTS = ".tcbuild/contents"
"""In the copy: the content of each file as `_content` returns it, as `write_texts` writes it."""
# Kconfig language (Kernel documentation, kbuild/kconfig-language.rst and kconfig-macro-language.rst).
NAMED_BY_KCONFIG = re.compile(r'^\s*[or]*source\s+"?([^"\s]+)|\$\(srctree\)/([^\s"\'),;]+)', re.MULTILINE)

UNKNOWN = ""


def sync(paths: Paths, origin: Path) -> None:
    """Make `paths.linux` a copy of the sources of `origin`, with new mtimes for the files that changed.

    If a file changed that a patch touches, all patches are reverted first; the caller applies them
    again.  Raises `UserError` if they cannot be reverted, and if the tree cannot be used.  The
    next run completes an interrupted one.
    """
    require_usable(paths, origin)
    products = edited_tree.left_out(paths.linux, origin)
    now = seen_or_scan(origin, products)
    known = _recorded(paths.linux)
    if known is not None:
        _update(paths, origin, known, now, products)
        return
    with atomic_dir(paths.linux) as folder:
        contents = {path: _copy(origin, folder, path) for path in now}
        digest = _finish(paths, origin, folder, now, contents, now)
        write_atomic(folder / STAMP, f"{origin.name} {digest}\n{digest}\n")


def require_usable(paths: Paths, origin: Path) -> None:
    """Raise `UserError` if `origin` is no kernel tree, or if it and the output folder are in one another."""
    missing = [name for name in ("Makefile", "Kconfig", "arch") if not (origin / name).exists()]
    if missing:
        raise unusable(origin, f"it has no {missing[0]}", "name the top folder of a kernel source")
    top, output = origin.resolve(), paths.output.resolve()
    if top.is_relative_to(output):
        raise unusable(origin, "it is a result of this very profile", "name a tree of your own")
    if output.is_relative_to(top):
        raise unusable(origin, f"the output folder {output} is in it", "choose another folder with out=DIR")


def _update(
    paths: Paths, origin: Path, contents: dict[str, str], now: dict[str, str], products: Iterable[str]
) -> None:
    """Copy what changed since `contents` was recorded; `now` is the state of the original."""
    tree = paths.linux
    before = edited_tree.RECORDED.pop(tree, None) or read_texts(tree / STATES)
    gone = contents.keys() - now.keys()
    copied = {path for path, known in contents.items() if known != UNKNOWN}
    new = now.keys() - copied
    looked_at = {path for path, state in now.items() if not state or before.get(path) != state} - new
    edited = {path for path in looked_at if contents[path] != _content(origin, path)[0]}
    changed = gone | new | edited
    head = (tree / STAMP).read_text().partition("\n")[0]
    known = edited_tree.summary(tree)
    only_edits = known.digest != "" and not new and not gone
    size_before = _size(contents[path] for path in edited)
    if changed:
        # Unknown until they are copied: this run may be killed, and the edit undone later.
        write_atomic(tree / PENDING, json.dumps(sorted(changed)))
        edited_tree.write_summary(tree, replace(known, digest=""))
        write_atomic(tree / STAMP, f"{head}\n\n")
        if changed & patches.touched_files(tree):
            patches.sync(tree, [], paths.logs / "patches.log")
    for path in gone:
        # For kbuild, a folder include/config is a product, if it is empty, too.
        remove_with_empty_folders(tree, path)
        del contents[path]
    for path in new | edited:
        contents[path] = _copy(origin, tree, path)
    read = known.configuration if only_edits and edited.isdisjoint(known.configuration) else None
    size = known.size - size_before + _size(contents[path] for path in edited) if only_edits else None
    digest = _finish(paths, origin, tree, now, contents, new, products, read, size)
    if changed:
        write_atomic(tree / STAMP, f"{head}\n{digest}\n")
        logger.info(f"linux: took over {len(changed)} changed file(s) of {origin}")


def _finish(
    paths: Paths,
    origin: Path,
    copy: Path,
    states: dict[str, str],
    contents: dict[str, str],
    new: Collection[str],
    products: Iterable[str] = (),
    read: list[str] | None = None,
    size: int | None = None,
) -> str:
    """Remove products from the copy, and record what it holds; return the digest of its content.

    new: the files that were not there before; products: those known from before; read: the files that
    the configuration reads, and size: of all files; both are found if they are None.
    """
    if new and is_built_in_place(origin):
        _make_mrproper(paths, origin, copy)
        found = {path for path in new if not os.path.lexists(copy / path)}
        for path in found:
            del states[path], contents[path]
        products = {*products, *found}
        logger.info(f"linux: {origin} was built in place; its products are not copied")
    if read is None:
        read = _read_by_configuration(copy, contents, paths.architecture.source)
    if size is None:
        size = _size(contents.values())
    digest = content_digest(contents)
    stamp = content_digest({path: contents[path] for path in read})
    write_if_changed(copy / CONFIGURATION, f"{stamp}\n")
    write_texts(copy / STATES, states)
    write_texts(copy / CONTENTS, contents)
    edited_tree.write_summary(copy, Summary(digest, size, sorted(products), read))
    (copy / PENDING).unlink(missing_ok=True)
    return digest


def _size(contents: Iterable[str]) -> int:
    """Return the bytes of files by their contents as `_content` returns them."""
    return sum(int(known.split(" ")[1]) for known in contents if not known.startswith("->"))


def _make_mrproper(paths: Paths, origin: Path, copy: Path) -> None:
    """Remove from `copy` what was built in `origin`, by the Makefiles that know what they make."""
    log = paths.logs / "mrproper.log"
    log.unlink(missing_ok=True)
    hint = f"make -C {origin} mrproper"
    try:
        run(["make", "-C", copy, f"ARCH={paths.architecture.kbuild}", "mrproper"], log=log)
    except ToolMissing:
        raise
    except UserError as error:
        raise unusable(
            origin, "it was built in place, and make mrproper fails in a copy", hint, error.detail
        ) from None
    if is_built_in_place(copy):
        raise unusable(origin, "it was built in place, and make mrproper leaves products in a copy", hint)


def _read_by_configuration(copy: Path, contents: Collection[str], arch: str) -> list[str]:
    """Return the files that the configuration reads: by their names, and those that these name.

    arch: the folder of arch/ that it uses.
    """
    by_name = edited_tree.rules().configuration.match
    read: set[str] = set()
    todo = [path for path in contents if by_name(path)]
    while todo:
        path = todo.pop()
        if path in read or path not in contents:
            continue
        read.add(path)
        if not path.startswith("scripts/"):
            text = (copy / path).read_text(errors="replace")
            names = (name for pair in NAMED_BY_KCONFIG.findall(text) for name in pair if name)
            todo += [name.replace("$(SRCARCH)", arch) for name in names]
    return sorted(read)


def _recorded(tree: Path) -> dict[str, str] | None:
    """Return the contents of the last copy; None if there was none or its record is damaged."""
    if not (tree / STAMP).is_file() or not (tree / CONTENTS).is_file():
        return None
    try:
        pending = json.loads((tree / PENDING).read_text()) if (tree / PENDING).exists() else []
        return read_texts(tree / CONTENTS) | dict.fromkeys(pending, UNKNOWN)
    except (OSError, ValueError, TypeError):
        return None


def _content(origin: Path, path: str) -> tuple[str, bytes | None]:
    """Return the content of a file as the record has it, and its bytes; None for a link.

    The text is `SHA256 SIZE`, `SHA256 SIZE x` for an executable file, or `-> TARGET`.
    """
    source = os.path.join(origin, path)
    try:
        if os.path.islink(source) and not leads_out(origin, path):
            return f"-> {os.readlink(source)}", None
        with open(source, "rb") as stream:
            data, mode = stream.read(), os.fstat(stream.fileno()).st_mode
    except PermissionError:
        raise unusable(origin, f"{path} cannot be read") from None
    except FileNotFoundError:
        raise unusable(origin, f"{path} vanished meanwhile", "run the same command again") from None
    executable = " x" if mode & stat.S_IXUSR else ""
    return f"{hashlib.sha256(data).hexdigest()} {len(data)}{executable}", data


def _copy(origin: Path, copy: Path, path: str) -> str:
    """Copy a file or link, and return the content that was copied.

    The current time is its mtime: an edited file may be older than its object.
    """
    known, data = _content(origin, path)
    target = copy / path
    if os.path.lexists(target):
        remove_tree(target)
    elif not os.path.isdir(os.path.dirname(target)):
        target.parent.mkdir(parents=True)
    if data is None:
        os.symlink(known.removeprefix("-> "), target)
    else:
        with open(target, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), 0o755 if known.endswith(" x") else 0o644)
    return known
