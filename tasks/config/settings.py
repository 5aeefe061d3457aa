"""The settings of one run: its profile, its folders, the cache and the use of the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.config import inheritance
from tasks.config.profile import Profile
from tasks.util.checkout import ROOT

SHARED_VARIABLE = "TCBUILD_SHARED_CACHE"


@dataclass(frozen=True)
class Settings:
    """The choices of the command line, and the paths of one profile's files."""

    name: str
    profile: Profile
    frozen: bool
    offline: bool
    fragments: tuple[str, ...]
    output: Path
    """Folder of this profile's results: `artifacts/NAME`, or the one that `out=` names."""
    cache: Path
    """Downloads and ccache, shared by all checkouts of one user."""
    relock: bool = False
    """`lock` replaces locked entries by what the mirrors serve now."""
    shared_cache: str = ""
    """Address of the shared cache (tasks/cache/task.py), "" for none."""

    @property
    def profile_file(self) -> Path:
        return ROOT / "profiles" / f"{self.name}.toml"

    @property
    def profile_files(self) -> list[Path]:
        """The profile's file and the files it inherits from."""
        return inheritance.lineage(ROOT / "profiles", self.name)

    @property
    def own_lock(self) -> Path:
        return ROOT / "profiles" / f"{self.name}.lock.toml"

    @property
    def pinned_lock(self) -> Path:
        return inheritance.pinned_lock(ROOT / "profiles", self.name)

    @property
    def used_lock(self) -> Path:
        return self.output / "lock.toml"

    @property
    def logs(self) -> Path:
        return self.output / "logs"

    @property
    def linux(self) -> Path:
        """The unpacked, patched kernel tree."""
        return self.output / "linux"

    @property
    def build(self) -> Path:
        """The kernel's O= folder: objects, kept between runs."""
        return self.output / "build"

    @property
    def config(self) -> Path:
        """The checked .config."""
        return self.output / "kconfig" / "config"

    @property
    def kernel(self) -> Path:
        """The installed kernel: vmlinuz64, System.map, config, release, modules/."""
        return self.output / "kernel"

    @property
    def core(self) -> Path:
        return self.output / "corepure64.gz"

    @property
    def core_parts(self) -> Path:
        """The parts of rootfs64.gz and corepure64.gz, kept between runs."""
        return self.output / "core-parts"

    @property
    def tcz(self) -> Path:
        """Folder of built extensions."""
        return self.output / "tcz"

    @property
    def images_list(self) -> Path:
        """images.lst: the list of the profile's checked container images."""
        return self.output / "images.lst"

    @property
    def iso(self) -> Path:
        return self.output / f"tcbuild-{self.name}.iso"

    @property
    def epoch_env(self) -> dict[str, str]:
        return {"SOURCE_DATE_EPOCH": str(self.profile.source_date_epoch)}
