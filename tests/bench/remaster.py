# SPDX-License-Identifier: MIT
"""Rows of whole images: the first ISO of a checkout, and Tiny Core remastered with a stock kernel.

ezremaster, Tiny Core's own program for it, is a dialogue; its last step runs the commands that stand in Tiny
Core's guide to remastering: `cpio | gzip`, `advdef` where that is installed, and `mkisofs`.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tasks.util.files import remove_tree
from tests.bench.images import unpack_core
from tests.bench.kernels import Make
from tests.bench.measure import Case, Row
from tests.bench.workplace import Workplace, edit
from tests.support import tinycore

REMASTERED = "bench-remaster"
PROFILE_TEXT = """\
description = "Tiny Core's own root with Debian's kernel"
source_date_epoch = 1700000000
toolchain = "host"
suite = {{ distribution = "debian", name = "bookworm" }}
extensions = [{{ name = "note", place = "initrd" }}]
[kernel]
source = {{ kind = "image", package = "linux-image-6.1.0-*[0-9]-amd64" }}
modules = "boot"
[core]
archives = [{{ kind = "file", path = "{root}" }}]
[boot]
bootcodes = ["console=ttyS0,115200"]
"""
RECIPE = '[info]\ntitle = "note"\ndescription = "A file that is changed"\n'
FILE = "usr/local/share/note"
BOOT = "-b boot/isolinux/isolinux.bin -c boot/isolinux/boot.cat -no-emul-boot -boot-load-size 4"


class Rows:
    """The rows of whole images."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.edits = itertools.count()

    def all(self) -> dict[str, Callable[[], Row]]:
        """Return what makes each row, by its name; making one builds what it stands on."""
        return {"first iso": self.first, "remaster": self.remaster}

    def first(self) -> Row:
        """An ISO from downloads alone, against make of its kernel: all else is to run beside that."""
        make = Make(self.place)

        def fresh() -> None:
            self.place.set_aside(self.place.settings.paths.output)
            self.place.empty_cache()

        self.place.run("iso")
        cases = [self.place.ours("iso", prepare=fresh), make.case(make.fresh, install=True)]
        note = "with unpacking the source, root, extensions; make has all that ready; target: 45 s more"
        return Row("first iso", cases, note=note)

    def remaster(self) -> Row:
        """A file of Tiny Core's own root of 11.0 is changed; its kernel and all else are there."""
        root = tinycore.REAL / "x86_64/rootfs64.gz"
        if not root.exists():
            return Row("remaster", [Case("", absent=f"not installed ({root})")])
        there, name = self.place.checkout, "note"
        (there / "extensions" / name / "files" / FILE).parent.mkdir(parents=True, exist_ok=True)
        (there / "extensions" / name / "files" / FILE).write_text("")
        (there / "extensions" / name / "recipe.toml").write_text(RECIPE)
        text = PROFILE_TEXT.format(root=root)
        (there / "profiles" / f"{REMASTERED}.toml").write_text(text)
        place = replace(self.place, settings=self.place.with_profile(REMASTERED))
        for task in ("lock", "iso"):
            place.run(task)

        def change() -> None:
            edit(there / "extensions" / name / "files" / FILE, f"{next(self.edits)}\n")

        ours = place.ours("iso", prepare=change, makes=place.settings.paths.iso)
        note = f"one line more in {FILE}; the guide's ISO boots by BIOS alone, and nothing of it is checked"
        return Row("remaster", [ours, self._guide(place)], note=note)

    def _guide(self, place: Workplace) -> Case:
        """The commands of Tiny Core's guide, on the tree that ezremaster would have laid out."""
        top, made = self.place.peers / "remaster", self.place.peers / "remaster.iso"
        remove_tree(top)
        root, tree = unpack_core(place, top / "root"), top / "iso"
        iso = place.settings.paths.iso
        self.place.run_tool("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", tree)
        self.place.run_tool("chmod", "-R", "u+w", tree)
        packed = tree / "boot/corepure64.gz"
        steps = [
            f"cd {shlex.quote(str(root))}",
            f"find . | cpio -o -H newc --quiet | gzip -2 > {shlex.quote(str(packed))}",
            *([f"advdef -z4 -q {shlex.quote(str(packed))}"] if shutil.which("advdef") else []),
            f"xorriso -as mkisofs -quiet -l -J -R -V TC-custom {BOOT} -boot-info-table"
            f" -o {shlex.quote(str(made))} {shlex.quote(str(tree))}",
        ]

        def change() -> None:
            edit(Path(root, FILE), f"{next(self.edits)}\n")

        return Case("the guide", ["sh", "-ec", "\n".join(steps)], prepare=change, makes=made)
