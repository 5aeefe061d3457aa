"""The files that an image and a mirror consist of, as tasks name them."""

from __future__ import annotations

from pathlib import Path

from tasks.config import mirror_layout
from tasks.config.settings import Settings
from tasks.formats import tcz
from tasks.util.checkout import ROOT


def mirror_files(settings: Settings, names: list[str]) -> list[Path]:
    """Return the files of a mirror with the extensions `names`.

    Without their .dep and .info: which have one is known when they are built.
    """
    top = mirror_layout.mirror(settings)
    folder = top / mirror_layout.mirror_folder(settings.profile)
    found = [file for name in names for file in tcz.file_names(name, tcz.MIRROR_SIDE_FILES)]
    found += [f"{name}{packed}" for name in tcz.DATABASES for packed in ("", ".gz")]
    tops = [top / name for name in (f"latest-{folder.parent.name}", "index.html", "SHA256SUMS")]
    carried = [top / "images" / image.file for image in settings.profile.images]
    carried += [top / "images" / settings.images_list.name] if carried else []
    return [*(folder / name for name in found), *carried, *tops]


def image_files(settings: Settings) -> list[Path]:
    """Return what images.lst is made from: image tars of this machine, and the lock of fetched ones.

    A tar that does not exist is the images stage's to explain.
    """
    sources = [image.source for image in settings.profile.images]
    fetched = any(not source.is_local for source in sources)
    local = [ROOT / source.local_name() for source in sources if source.is_local]
    return [*([settings.used_lock] if fetched else []), *(path for path in local if path.is_file())]
