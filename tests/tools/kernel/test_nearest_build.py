# SPDX-License-Identifier: MIT
"""A build that starts from another's objects: the bytes of one from nothing, by the real make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.kernel_source import FINISHED
from tasks.config.settings import Settings
from tasks.kernel import build
from tasks.util.checkout import CHECKOUT
from tasks.util.files import sha256_file
from tests.support import smallkernel

FIRST = {"64BIT": "y", "MODULES": "y", "CRC7": "m", "CRC8": "m", "DEFAULT_HOSTNAME": '"one"'}
# A module comes, one goes, one becomes built-in; a symbol and a text differ.
SECOND = FIRST | {"CRC7": "y", "CRC8": "n", "CRC_ITU_T": "m", "SGETMASK_SYSCALL": "y"}
SECOND |= {"DEFAULT_HOSTNAME": '"two"'}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkout") / "artifacts"


@pytest.fixture
def settings(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return a function that prepares a small kernel of the built image's tree in an output folder."""
    monkeypatch.setattr(CHECKOUT, "artifacts", artifacts)

    def made(name: str, wanted: dict[str, str]) -> Settings:
        return smallkernel.prepare(artifacts / name, wanted)

    return made


def objects(settings: Settings) -> int:
    return (settings.paths.logs / "kernel.log").read_text().count("  CC ")


def results(settings: Settings) -> dict[str, str]:
    """Return the digests of all that is installed of a build."""
    folder = settings.paths.build
    made = [folder / "arch/x86/boot/bzImage", folder / "modules.order", folder / "System.map"]
    made += [folder / name.replace(".o", ".ko") for name in (folder / "modules.order").read_text().split()]
    return {str(path.relative_to(folder)): sha256_file(path) for path in made}


@pytest.mark.slow
def test_the_bytes_are_those_of_a_build_from_nothing(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    first = settings("first", FIRST)
    build.build(first)
    whole = objects(first)
    second = settings("second", SECOND)
    capsys.readouterr()
    build.build(second)
    assert f"kernel: starts from the objects of {first.paths.build}: " in capsys.readouterr().out
    assert 0 < objects(second) < whole / 4
    assert "lib/crc-itu-t.ko" in results(second)
    (first.paths.build / FINISHED).unlink()
    (second.paths.build / FINISHED).unlink()
    nothing = settings("nothing", SECOND)
    build.build(nothing)
    assert objects(nothing) > whole / 2
    assert results(nothing) == results(second)
    for folder in (first, second):
        assert (folder.paths.build / ".config").read_bytes() == folder.paths.config.read_bytes()
