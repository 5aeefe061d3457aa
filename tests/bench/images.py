# SPDX-License-Identifier: MIT
"""Rows of the image: ours against the shell pipeline, mkosi, and a boot by hand.

The shell pipeline is what is written in every guide to remastering: `find | cpio | gzip -9` of
an unpacked root, `mksquashfs` of a folder, `xorriso` of a folder.  It makes no checks,
keeps no owners but the caller's own and is not reproducible; its folders lie ready, unmeasured.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.formats import cpio, initramfs_file
from tasks.image import iso
from tasks.kernel.fragments import parse_config
from tasks.util.files import remove_tree
from tasks.vm import qemu, virtiofsd
from tasks.vm.machine import argv
from tests.bench.growth import COUNTS
from tests.bench.measure import OURS, Case, Row, Target, missing
from tests.bench.workplace import Workplace, edit, script
from tests.support import manyextensions, tinycore
from tests.vm.contract import on_tiny_cores_root

EXTENSION = "attr"
MARKER = Path(__file__).with_name("marker.py")
PROMPT = "tc@box:"
# Three times as fast, at no more than the size.
REPACK = [Target("cpu", "shell", 1 / 3), Target("size", "shell", 1.0)]
NO_ROOT = "could not run: it needs root (overlay mounts)"


def unpack_core(place: Workplace, folder: Path) -> Path:
    """Unpack the core of a place into `folder`, as far as this user may."""
    remove_tree(folder)
    folder.mkdir(parents=True)
    members = initramfs_file.merged(initramfs_file.read_core(place.settings.paths.core)).values()
    packed = folder.with_suffix(".cpio")
    packed.write_bytes(cpio.write(list(members), mtime=None))
    nodes = [] if os.geteuid() == 0 else ["--nonmatching", "dev/*"]
    words = ["cpio", "-idm", "--quiet", "--no-absolute-filenames", *nodes]
    unpack = f"cd {shlex.quote(str(folder))} && {shlex.join(words)} < {shlex.quote(str(packed))}"
    place.run_tool("sh", "-ec", unpack)
    return folder


class Rows:
    """The rows of the image."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.edits = itertools.count()

    def all(self) -> dict[str, Callable[[], Row]]:
        """Return what makes each row, by its name; making one builds what it stands on."""
        return {
            "core repack": self.repack,
            "tcz": self.tcz,
            "iso": self.iso,
            "iso no-op": self.noop,
            "boot to prompt": self.boot,
            **{f"boot with {count:,} extensions": partial(self.boot_many, count) for count in COUNTS},
            "share": self.share,
            "qemu:run": self.run,
        }

    def _built(self) -> Path:
        """Have the image built, and a folder for the peers."""
        self.place.run("iso")
        self.place.peers.mkdir(exist_ok=True)
        return self.place.peers

    def _change(self, path: Path) -> None:
        edit(path, f"# changed {next(self.edits)}\n")

    def repack(self) -> Row:
        """One start script of the root has changed."""
        peers = self._built()
        root = unpack_core(self.place, peers / "root")
        packed = peers / "core.gz"
        pipeline = f"cd {shlex.quote(str(root))}; find . | cpio -o -H newc --quiet | gzip -9 > ../core.gz"
        changed = Path("etc/motd")
        shell = Case("shell", ["sh", "-ec", pipeline], None, {}, lambda: self._change(root / changed), packed)
        ours = self.place.ours(
            "core",
            prepare=lambda: self._change(self.place.checkout / "rootfs/files" / changed),
            makes=self.place.settings.paths.core,
        )
        note = f"one line more in {changed}; mkosi 14 asks the mirror first, by apt-get in the image"
        return Row("core repack", [ours, shell, self._mkosi(root)], REPACK, note)

    def _mkosi(self, root: Path) -> Case:
        """mkosi with the same root as its base image and the changed file as its extra tree.

        Its own way to a root, debootstrap, would compare the downloads of 200 packages.  Version 14
        asks the mirror all the same (`apt-get update` in the base image, without the machine's
        apt settings), and does some of its work (--with-docs leaves out what can be left out)
        by systemd-nspawn: where either fails, the table says so.
        """
        out, extra = root.parent / "mkosi", root.parent / "extra"
        base = root.parent / "mkosi-base"
        out.mkdir(exist_ok=True)
        remove_tree(base)
        self.place.run_tool("cp", "-a", root, base)
        for name in ("etc/apt/sources.list.d", "etc/apt/apt.conf.d", "var/lib/dpkg", "var/cache/apt"):
            (base / name).mkdir(parents=True, exist_ok=True)  # it writes there, and does not ask
        (extra / "etc").mkdir(parents=True, exist_ok=True)
        # It knows xz and zstd alone.
        words = [
            *("mkosi", "--distribution", "debian", "--release", "bookworm", "--format", "cpio"),
            *("--base-image", str(base), "--extra-tree", str(extra), "--with-docs", "--force"),
            *("--compress-output", "zstd", "--output-dir", str(out), "--output", "core.cpio.zstd"),
            *("--directory", str(out), "build"),
        ]
        absent = missing("mkosi", "apt: mkosi") or ("" if os.geteuid() == 0 else NO_ROOT)
        return Case(
            "mkosi",
            words,
            out,
            {},
            lambda: self._change(extra / "etc/motd"),
            out / "core.cpio.zstd",
            absent,
        )

    def tcz(self) -> Row:
        """One extension from the packages it is made of; the shell packs its unpacked folder."""
        peers = self._built()
        self.place.run(f"tcz:{EXTENSION}")
        made = self.place.settings.paths.tcz / f"{EXTENSION}.tcz"
        folder, packed = peers / EXTENSION, peers / "shell.tcz"
        remove_tree(folder)
        self.place.run_tool("unsquashfs", "-q", "-n", "-d", folder, made)
        squash: list[str | Path] = [
            "mksquashfs",
            folder,
            packed,
            "-b",
            "4k",
            "-no-xattrs",
            "-all-root",
            "-noappend",
        ]
        squash += ["-no-progress", "-quiet"]
        commands = script(squash, ["md5sum", packed])
        shell = Case("shell", commands, peers, {}, lambda: remove_tree(packed), packed)

        def prepare() -> None:
            self.place.drop(made)
            self.place.empty_cache()

        ours = self.place.ours(f"tcz:{EXTENSION}", prepare=prepare, makes=made)
        note = "ours also unpacks the packages, checks libraries and writes .dep, .info, .list"
        return Row("tcz", [ours, shell], note=note)

    def iso(self) -> Row:
        """The ISO is gone; kernel, core and extensions are there."""
        peers = self._built()
        ours = self.place.settings
        tree = peers / "iso-tree"
        remove_tree(tree)
        self.place.run_tool("xorriso", "-osirrox", "on", "-indev", ours.paths.iso, "-extract", "/", tree)
        # As a copy it is read-only, and xorriso writes into isolinux.bin's boot information.
        self.place.run_tool("chmod", "-R", "u+w", tree)
        packed = peers / "shell.iso"
        # The EFI partition is no file of the ISO; the loader in the tree stands in for its image.
        efi = tree / "EFI/BOOT" / ours.profile.architecture.efi[0].file
        words = [*iso._xorriso(ours.profile, iso.identity(tree), efi), "-o", str(packed), str(tree)]
        shell = Case("shell", words, peers, {}, lambda: remove_tree(packed), packed)

        def prepare() -> None:
            self.place.drop(ours.paths.iso)
            self.place.empty_cache()

        case = self.place.ours("iso", prepare=prepare, makes=ours.paths.iso)
        return Row("iso", [case, shell], note="ours also lays out the tree and makes the EFI image")

    def noop(self) -> Row:
        """`./doit iso` with nothing to do, against make's no-op of the kernel alone."""
        from tests.bench.kernels import Make

        self._built()
        make = Make(self.place)
        if not (make.build / "vmlinux").is_file():
            make.fresh(keep_cache=True)
            self.place.run_tool(*make.argv(install=True), env=make.env)
        cases = [self.place.ours("iso"), make.case(lambda: None)]
        return Row("iso no-op", cases, [Target("cpu", "make", 0.1)])

    def boot(self) -> Row:
        """Seconds until the prompt: the ISO by BIOS and menu, and its kernel and core by -kernel."""
        self._built()
        settings = self.place.settings
        program = shutil.which("qemu-system-x86_64")
        absent = "" if program else "not installed (apt: qemu-system-x86)"
        boot = [sys.executable, "-m", "tests.bench.boot"]
        codes = " ".join(settings.profile.boot.bootcodes)
        by_hand: list[str | Path] = [
            *boot,
            "direct",
            settings.paths.kernel / "vmlinuz64",
            settings.paths.core,
            codes,
        ]
        nothing: list[str | Path] = [*boot, "off", settings.paths.kernel / "vmlinuz64", codes]
        cases = [
            Case("tcbuild", [*boot, "bios", settings.paths.iso], self.place.checkout, self.place.env),
            Case("by hand", by_hand, self.place.checkout, self.place.env, absent=absent),
            Case("power off", nothing, self.place.checkout, self.place.env, absent=absent),
        ]
        timeout = settings.profile.boot.timeout
        note = f"the ISO's menu waits {timeout} s; power off: the kernel, and an initramfs that ends it"
        return Row("boot to prompt", cases, note=f"{note}; QEMU emulates (TCG)")

    def boot_many(self, count: int) -> Row:
        """Seconds until the prompt with `count` small extensions on a disc: our root, and Tiny Core's own."""
        peers = self._built()
        settings = self.place.settings
        disc = peers / f"many{count}.iso"
        remove_tree(disc)
        manyextensions.add(settings.paths.iso, disc, count)
        boot: list[str | Path] = [
            sys.executable,
            "-m",
            "tests.bench.boot",
            "direct",
            settings.paths.kernel / "vmlinuz64",
        ]
        codes = " ".join(dict.fromkeys([*settings.profile.boot.bootcodes, "cde"]))
        there, env = self.place.checkout, self.place.env
        cases = [Case(OURS, [*boot, settings.paths.core, codes, disc], there, env)]
        root = tinycore.REAL / "x86_64/rootfs64.gz"
        if root.exists():
            core = on_tiny_cores_root(settings, peers / "tiny-core").paths.core
            cases.append(Case("Tiny Core's root", [*boot, core, codes, disc], there, env))
        else:
            cases.append(Case("Tiny Core's root", absent=f"not installed ({root})"))
        return Row(f"boot with {count:,} extensions", cases, note="one file each; QEMU emulates (TCG)")

    def share(self) -> Row:
        """A folder in a guest, by each way: 1 GB read and written, and 10,000 small files."""
        self._built()
        settings = self.place.settings
        config = parse_config((settings.paths.kernel / "config").read_text())
        codes = " ".join(settings.profile.boot.bootcodes)
        here = virtiofsd.missing()
        lacks = "needs --config profile" if config.get("VIRTIO_CONSOLE", "n") == "n" else ""

        def case(who: str, way: str, absent: str) -> Case:
            kernel, core = settings.paths.kernel / "vmlinuz64", settings.paths.core
            words = [sys.executable, "-m", "tests.bench.share", way, str(kernel), str(core), codes]
            return Case(who, words, self.place.checkout, self.place.env, absent=absent)

        ways = [("9p", "9p", lacks), ("disk", "disk", lacks)]
        if not here:
            ways.insert(0, ("virtiofs", "virtiofs", lacks))
        cases = [case(OURS, ways[0][1], lacks), *(case(*way) for way in ways[1:])]
        note = f"tcbuild by {ways[0][1]}; the boot is in all of them; QEMU emulates (TCG)"
        return Row("share", cases, note=note)

    def run(self) -> Row:
        """`true` in a guest that QEMU boots directly, against QEMU until the prompt, and virtme-ng."""
        self._built()
        settings = self.place.settings
        accel = qemu.accelerator(settings.paths, settings.profile)
        machine = qemu.machine(settings.paths, settings.profile, "direct", accel, memory=1024, network=True)
        with TemporaryDirectory() as scratch:
            words = [*argv(machine, Path(scratch)), "-display", "none", "-serial", "stdio"]
        without = ["--disable-kvm"] if accel == "tcg" else []
        programs = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
        absent = "" if shutil.which("vng", path=programs) else "not installed (PyPI: virtme-ng)"
        kernel = str(settings.paths.kernel / "vmlinuz64")
        env = {**self.place.env, "PATH": programs}
        there, ours = self.place.checkout, self.place.doit("qemu:run", "--firmware", "direct")
        cases = [
            Case(OURS, [*ours, "--", "true"], there, self.place.env),
            Case("bare qemu", [sys.executable, "-I", "-S", MARKER, PROMPT, *words], there),
            Case("virtme-ng", ["vng", *without, "--run", kernel, "--", "true"], there, env, absent=absent),
        ]
        note = f"bare qemu: to its prompt; virtme-ng: with this machine's root; accelerator: {accel}"
        return Row("qemu:run", cases, [Target(metric, "bare qemu", 1.1) for metric in ("cpu", "wall")], note)
