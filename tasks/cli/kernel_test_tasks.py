# SPDX-License-Identifier: MIT
"""The tasks that run the kernel's own tests in guests, for `dodo.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.engine.task import Action, Task, changed, command, do, files
from tasks.kernel import kunit
from tasks.kernel.inputs import config_files
from tasks.util.checkout import CHECKOUT


def declared(
    settings: Settings, prepare: Sequence[Action], tree: Sequence[str], compiler: object
) -> Iterator[Task]:
    """Yield the tasks.

    prepare: the actions that make the kernel's source and toolchain ready.  tree: the files that stand
    for the source.  compiler: what tells another compiler.
    """
    paths, profile = settings.paths, settings.profile
    own, tested = kunit.paths_of(paths), kunit.profile_of(profile)
    has_tree = not profile.kernel.image
    if has_tree:
        yield {
            "basename": "kernel:kunit",
            "doc": "build the kernel once more with KUnit, its unit tests, which run while it boots",
            "actions": [*prepare, do("kernel.kunit", "make", settings)],
            "file_dep": [
                *tree,
                *files(paths.base_config, *config_files(tested), CHECKOUT.find("kconfig", "notes.toml")),
            ],
            "targets": files(own.vmlinuz),
            "uptodate": changed(kernel=tested.kernel, tools=compiler, epoch=profile.source_date_epoch),
        }
    tests: dict[str, tuple[str, list[Action], dict[str, Any]]] = {
        "kselftest": (
            "build the kernel's self tests of TARGET (default: some that are quick), and run them in a guest",
            [*prepare, do("vm.kselftest", "asked", settings)],
            {
                "reads": files(paths.core, paths.vmlinuz),
                "params": variables.KSELFTEST,
                "pos_arg": "targets",
            },
        ),
        "kunit": (
            "run the kernel's unit tests, KUnit, in a guest: those that fit SUITE, as list* (default: all)",
            [do("vm.kunit", "asked", paths, profile)],
            {"reads": files(own.vmlinuz), "params": variables.KUNIT, "pos_arg": "suites"},
        ),
    }
    for name, (doc, actions, more) in tests.items():
        if not has_tree:  # nothing is built before that is said
            actions, more = [do("kernel.kunit", "refuse")], {**more, "reads": ()}
        yield command(name, doc, *actions, **more, meta={"check": variables.check_reports})
