# SPDX-License-Identifier: MIT
"""What one run works on, divided by what it touches: folders, a profile, the network.

A function takes the parts that it needs, so that its arguments tell what it can touch.
Only what needs all three takes `Settings`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.config import architecture, inheritance
from tasks.config.architecture import Architecture
from tasks.config.profile import Profile
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.toml_schema import read_toml

SHARED_VARIABLE = "TCBUILD_SHARED_CACHE"
NO_CACHE, OWN_CACHE = "none", "own"
"""Addresses that stand for no shared cache, and for the folder of this user's own."""
# What kbuild leaves alone in a path.  Others have a meaning to make (`:` `%` `$` `#`, white space), to
# the shell of its recipes, or to gcc's -Wp (`,`) and -fdebug-prefix-map (`=`).
PLAIN_CHARACTERS = re.compile(r"[\w/.+@^~!-]")


@dataclass(frozen=True)
class Paths:
    """Where the files of one profile lie."""

    name: str
    """The profile's name."""
    output: Path
    """Folder of this profile's results: `artifacts/NAME`, of the last tree if there is one, or `out=`."""
    cache: Path
    """Downloads and ccache, shared by all checkouts of one user."""
    arch: str = architecture.DEFAULT
    """The name of the profile's architecture, which names files."""
    variant: str = ""
    """The name of a further kernel of the same tree, which has folders of its own; "" for the profile's."""

    @property
    def architecture(self) -> Architecture:
        return architecture.load(self.arch)

    @property
    def profile_file(self) -> Path:
        return inheritance.file_of(CHECKOUT.folders("profiles"), self.name)

    @property
    def profile_files(self) -> list[Path]:
        """The profile's file and the files it inherits from."""
        return inheritance.lineage(CHECKOUT.folders("profiles"), self.name)

    @property
    def imported_name(self) -> str:
        """The name of the profile that `./doit import` wrote: this one, or one that it inherits from."""
        files = self.profile_files if self.profile_file.is_file() else []
        return next((file.stem for file in files if read_toml(file).get("imported")), self.name)

    @property
    def own_lock(self) -> Path:
        """The lock of the profile itself, beside it."""
        return inheritance.lock_of(self.profile_file)

    @property
    def pinned_lock(self) -> Path:
        return inheritance.pinned_lock(CHECKOUT.folders("profiles"), self.name)

    @property
    def used_lock(self) -> Path:
        return self.output / "lock.toml"

    def lock_part(self, user: str) -> Path:
        """Return the path of the lock entries that one user has: `linux`, `rootfs`, `tcz/NAME` ...

        tasks/config/inputs.py divides the used lock.  A task that reads a part depends on nothing else
        of the lock.
        """
        return self.output / "locks" / f"{user}.toml"

    def extension_lock(self, name: str) -> Path:
        """Return the path of the lock entries of the extension `name`: its packages, or its .tcz."""
        return self.lock_part(f"tcz/{name}")

    @property
    def toolchain_record(self) -> Path:
        """What ran the programs of the toolchains in the last build, one line each."""
        return self.output / "toolchain.txt"

    @property
    def logs(self) -> Path:
        return self.output / "logs" / self.variant

    @property
    def linux(self) -> Path:
        """The unpacked, patched kernel tree."""
        return self.output / "linux"

    @property
    def build(self) -> Path:
        """The kernel's O= folder: objects, kept between runs."""
        # Beside the tree in any case: command lines that the compiler gets name it as ../linux.
        return self._of_kernel("build")

    @property
    def config(self) -> Path:
        """The checked .config."""
        return self._of_kernel("kconfig") / "config"

    @property
    def base_config(self) -> Path:
        """The completed base config, onto which the fragments are merged."""
        return self.config.with_name("base.config")

    @property
    def kernel(self) -> Path:
        """The installed kernel: vmlinuz64, System.map, config, release, modules/."""
        return self._of_kernel("kernel")

    def _of_kernel(self, folder: str) -> Path:
        return self.output / (f"{folder}-{self.variant}" if self.variant else folder)

    @property
    def vmlinuz(self) -> Path:
        """The bootable kernel: vmlinuz64, or as the architecture names it."""
        return self.kernel / self.architecture.files.kernel

    @property
    def core(self) -> Path:
        """The whole initramfs: corepure64.gz, or as the architecture names it."""
        return self.output / self.architecture.files.core

    @property
    def rootfs(self) -> Path:
        """The base root that tcbuild makes: rootfs64.gz, or as the architecture names it."""
        return self.output / self.architecture.files.rootfs

    @property
    def modules(self) -> Path:
        """The modules in the core: modules64.gz, or as the architecture names it."""
        return self.output / self.architecture.files.modules

    @property
    def core_parts(self) -> Path:
        """The parts of the base root and the core, kept between runs."""
        return self.output / "core-parts"

    @property
    def tcz(self) -> Path:
        """Folder of built extensions."""
        return self.output / "tcz"

    @property
    def images_list(self) -> Path:
        """images.lst: the list of the profile's checked container images."""
        return self.output / "images.lst"

    def container_image(self, name: str) -> Path:
        """Return the path of the container image that the recipe images/`name` makes, an OCI archive."""
        return self.output / "images" / f"{name}.tar"

    @property
    def iso(self) -> Path:
        return self.output / f"tcbuild-{self.name}.iso"

    def require_plain_output(self) -> None:
        """Raise `UserError` if the path of `output` has a character that the kernel's build cannot handle.

        A build calls it before it fetches anything.
        """
        text = str(self.output)
        found = sorted(set(text) - set(PLAIN_CHARACTERS.findall(text)))
        if found:
            shown = ("a space" if one == " " else one if one.isprintable() else repr(one) for one in found)
            raise UserError(
                f"{text!r}: the kernel's build cannot handle these in its path: {' '.join(shown)}",
                "choose another folder with out=DIR, or move the checkout",
            )


@dataclass(frozen=True)
class Network:
    """What the command line allows of the network, and of what is locked."""

    offline: bool = False
    """No connection is opened."""
    frozen: bool = False
    """An input that is not the locked one is an error."""
    newest: bool = False
    """A locked package that has left the mirrors is replaced by the newest one."""
    relock: bool = False
    """`lock` takes what the mirrors serve now, though something else is locked."""
    shared_cache: str = ""
    """Address of the shared cache (tasks/cache/task.py), "" for none."""
    own_cache: bool = False
    """The shared cache is the folder of this user's own, which serves if no other is named."""

    @property
    def fetch_on_demand(self) -> bool:
        """Whether an input is fetched when a stage needs it, as a cache of others may have the result."""
        return bool(self.shared_cache) and not self.own_cache


@dataclass(frozen=True)
class Settings:
    """All that the command line chose."""

    paths: Paths
    profile: Profile
    """With what the command line says instead of the file: fragments, compiler."""
    network: Network = Network()
