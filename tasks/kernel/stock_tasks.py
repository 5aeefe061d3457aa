# SPDX-License-Identifier: MIT
"""The tasks of a kernel that others built, for `dodo.py`: it is taken, then its config is proved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.config.settings import Settings
from tasks.engine.task import Action, Task, beside, changed, command, do, files
from tasks.kernel import inputs
from tasks.kernel.kconfig_tasks import QUESTIONS
from tasks.util.checkout import CHECKOUT
from tasks.util.trees import Tree


def kernel(
    settings: Settings, base: Sequence[str], prepare: Sequence[Action], made: list[str], toolchain: str = ""
) -> Task:
    """Return task `kernel`.

    base: the files of the base root that it depends on, if the modules lie there.  prepare: what
    fetches them, and prepares the toolchain.  made: its targets.  toolchain: the digest of that which
    has depmod.
    """
    paths, image = settings.paths, settings.profile.kernel.image
    assert image is not None
    return {
        "basename": "kernel",
        "doc": "take a kernel that others built, and check it and its modules",
        "actions": [
            beside("fetch.stage_inputs", "fetch_kernel_image", settings),
            *prepare,
            do("kernel.stock", "take", paths, settings.profile),
        ],
        "file_dep": [
            *files(paths.lock_part("linux"), *image.folder_files),
            *(base if image.modules_in_base else ()),
        ],
        "task_dep": ["inputs"],  # the record of the inputs is there when the kernel is refused
        "targets": [*made, *files(paths.kernel / "config")],
        "meta": {"sizes": files(paths.kernel / "modules")},
        "uptodate": changed(
            paths.kernel / "modules",
            source=image,
            toolchain=toolchain,
            release=settings.profile.kernel.release,
            **{str(top.relative_to(image.tree or top)): Tree(top) for top in image.modules_trees},
        ),
    }


def kconfig(settings: Settings) -> Iterator[Task]:
    """Yield the tasks about its configuration."""
    paths, profile = settings.paths, settings.profile
    found = paths.kernel / "config"
    yield {
        "basename": "kconfig",
        "doc": "check that the kernel has what every line of the fragments requests",
        "actions": [do("kernel.stock_config", "prove", paths, profile)],
        "file_dep": files(
            found,
            paths.kernel / "release",
            *inputs.config_files(profile),
            CHECKOUT.find("kconfig", "notes.toml"),
        ),
        "targets": files(paths.config),
        "uptodate": changed(fragments=profile.kernel.fragments),
    }
    doc = "print what the fragments change against the base config"
    yield command("kconfig:diff", doc, do("kernel.stock_config", "refuse"))
    for name, one in QUESTIONS.items():
        refuse = do("kernel.stock_config", "refuse")
        yield command(name, one.doc, refuse, pos_arg="names", params=list(one.options))
    doc = "print for each requested config line its value in the kernel"
    report = do("kernel.stock_config", "print_report", paths, profile)
    yield command("kconfig:report", doc, report, reads=files(found))
