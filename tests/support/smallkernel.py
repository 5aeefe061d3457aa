# SPDX-License-Identifier: MIT
"""Small kernels of the built image's tree, which compile in a minute or two."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tasks.config.settings import Settings
from tasks.kernel import kbuild
from tests.support.built import with_source


def prepare(output: Path, wanted: Mapping[str, str]) -> Settings:
    """Return settings of a kernel in the new folder `output`, configured by `tinyconfig` and `wanted`.

    wanted: symbol (without CONFIG_) -> value.  The build folder is empty.
    """
    image = with_source()
    made = replace(image, paths=replace(image.paths, output=output))
    output.mkdir(parents=True)
    # The same files, with their times.
    subprocess.run(["cp", "-al", image.paths.linux, made.paths.linux], check=True)
    make = kbuild.of_profile(made)
    asked = made.paths.linux / "kernel/configs/asked.config"
    asked.write_text("".join(f"CONFIG_{symbol}={value}\n" for symbol, value in wanted.items()))
    make.run(["tinyconfig", "asked.config"])
    asked.unlink()  # else the tree counts as edited
    made.paths.config.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made.paths.build / ".config", made.paths.config)
    shutil.rmtree(made.paths.build)
    return made
