# SPDX-License-Identifier: MIT
"""A second kernel of the profile's tree, with KUnit: the kernel's unit tests, which run while it boots.

Its configuration is the profile's with the fragment kconfig/kunit.config.  It has folders of its own beside
the profile's kernel, and neither modules nor a place in an image.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from tasks.config.profile import Profile
from tasks.config.settings import Paths, Settings
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, write_if_changed

VARIANT = "kunit"
FRAGMENT = "kunit"


def paths_of(paths: Paths) -> Paths:
    """Return the paths of the kernel with the tests."""
    return replace(paths, variant=VARIANT)


def profile_of(profile: Profile) -> Profile:
    """Return the profile with the fragment of the tests."""
    fragments = tuple(name for name in profile.kernel.fragments if name != FRAGMENT)
    return replace(profile, kernel=replace(profile.kernel, fragments=(*fragments, FRAGMENT)))


def refuse(*_: object, **__: object) -> None:
    """Raise `UserError`: the profile's kernel is one that others built, so that there is no source."""
    raise UserError(
        "the kernel's source is needed, and the profile takes a kernel that others built",
        "choose a profile that builds its kernel: profile=apt",
    )


def make(settings: Settings) -> None:
    """Configure and compile the kernel with the tests; the profile's base config must be there.

    Raises `UserError` as `kconfig.merge` and `build.build` do, and if the result is no kernel.
    """
    # Imported here: each run asks this module for its paths, and few make this kernel.
    from tasks.formats import bzimage
    from tasks.kernel import build, kconfig

    own = replace(settings, paths=paths_of(settings.paths), profile=profile_of(settings.profile))
    own.paths.config.parent.mkdir(parents=True, exist_ok=True)
    write_if_changed(own.paths.base_config, settings.paths.base_config.read_bytes())
    kconfig.merge(own)
    build.build(own)
    architecture = own.profile.architecture
    image = own.paths.build / "arch" / architecture.source / "boot/bzImage"
    with atomic_dir(own.paths.kernel) as folder:
        shutil.copyfile(image, folder / own.paths.vmlinuz.name)
        bzimage.check_bzimage(folder / own.paths.vmlinuz.name, bits=architecture.bits)
        shutil.copyfile(own.paths.config, folder / "config")
