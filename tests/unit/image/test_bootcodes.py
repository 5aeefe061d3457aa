# SPDX-License-Identifier: MIT
"""Bootcodes that extensions need: which extension needs which, and when tcbuild warns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan, profile, recipe
from tasks.config.profile import Extension, Profile
from tasks.config.settings import Settings
from tasks.extensions import build
from tasks.image import bootcodes, iso
from tasks.origins.lock import Lock, LockedExtension
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.secrets import token
from tests.support.settings import both

INFO = '[info]\ntitle = "t"\ndescription = "d"\n'
RECIPES = {
    "runtime": 'bootcodes = ["noembed", "cde"]\n',
    "top": 'deps = ["runtime"]\n',
    "other": 'bootcodes = ["noembed"]\n',
    "plain": "",
    "odd": 'bootcodes = ["unheard-of"]\n',
}
WHY = "runc's pivot_root fails on the initramfs"


@pytest.fixture
def warned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that returns the warnings for a profile with these extensions and bootcodes."""
    for name, text in RECIPES.items():
        (tmp_path / "extensions" / name).mkdir(parents=True)
        (tmp_path / "extensions" / name / "recipe.toml").write_text(text + INFO)
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")

    def call(*extensions: Extension, codes: tuple[str, ...] = ("cde",), also: str = "plain") -> list[str]:
        loaded = profile.load("tc11")
        kept = replace(loaded, extensions=extensions, boot=replace(loaded.boot, bootcodes=codes))
        lock = Lock(extension=tuple(LockedExtension(n, "a" * 64, "b" * 32, 1) for n in ("docker", "nano")))
        return bootcodes.missing(kept, plan.plan(kept, lock, also=[also]))

    return call


@pytest.mark.parametrize("place", ["onboot", "copy2fs", "ondemand", "initrd"])
@pytest.mark.parametrize("name", ["runtime", "top"])
def test_an_extension_counts_in_every_place(warned: Callable[..., list[str]], name: str, place: str) -> None:
    (line,) = warned(Extension(name, place))  # type: ignore[arg-type]
    assert line.startswith(f"runtime needs the bootcode noembed, which boot.bootcodes lacks: {WHY}")
    assert "\n" not in line


def test_one_line_for_all_extensions_that_need_it(warned: Callable[..., list[str]]) -> None:
    (line,) = warned(Extension("top"), Extension("other"))
    assert line.startswith("runtime, other need the bootcode noembed")


@pytest.mark.parametrize(
    ("codes", "lines"),
    [
        (("cde", "noembed"), 0),
        (("cde", "noembed2"), 1),  # another word
        (("cde", "xnoembed"), 1),
        (("noembed",), 1),
        ((), 2),
    ],
)
def test_the_menu_must_have_the_word(
    warned: Callable[..., list[str]], codes: tuple[str, ...], lines: int
) -> None:
    assert len(warned(Extension("runtime"), codes=codes)) == lines


def test_an_extension_outside_the_image_does_not_count(warned: Callable[..., list[str]]) -> None:
    assert warned(Extension("plain"), also="runtime") == []


def test_upstream_extensions_are_known_by_name(warned: Callable[..., list[str]]) -> None:
    (line,) = warned(Extension("docker", origin="upstream"))
    assert line.startswith("docker needs the bootcode noembed")
    assert warned(Extension("nano", origin="upstream")) == []


def test_a_bootcode_without_a_reason(warned: Callable[..., list[str]]) -> None:
    assert warned(Extension("odd")) == ["odd needs the bootcode unheard-of, which boot.bootcodes lacks"]


def test_recipes_of_the_project_need_known_bootcodes() -> None:
    """A reason is what makes the warning worth reading."""
    needed = {code for name in recipe.names() for code in recipe.load(name).bootcodes}
    assert "noembed" in needed
    assert needed <= set(bootcodes.load_table())


@pytest.mark.parametrize("code", ["", "no embed", "noembed\n"])
def test_a_bootcode_is_one_word(code: str) -> None:
    with pytest.raises(ValueError, match="bootcodes"):
        recipe.Recipe(recipe.Info("t", "d"), bootcodes=(code,))


def test_the_info_file_names_the_bootcode() -> None:
    made = recipe.Recipe(recipe.Info("t", "d", comments=("First.",)), bootcodes=("noembed",))
    lines = build.info_text("x", made, "1", 1, 0).splitlines()
    assert lines[9:11] == ["Comments:       First.", "                Needs the bootcode noembed."]
    alone = replace(made, info=recipe.Info("t", "d"))
    assert "Comments:       Needs the bootcode noembed." in build.info_text("x", alone, "1", 1, 0)


def test_the_warning_is_printed(
    make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings()
    runtime: Profile = replace(settings.profile, extensions=(Extension("containerd"),))
    bootcodes.warn(*both(replace(settings, profile=runtime)))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("warning: containerd needs the bootcode noembed")


def test_a_damaged_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bootcodes.toml").write_text('[[bootcode]]\nname = "x"\n')
    monkeypatch.setattr(bootcodes, "FILE", tmp_path / "bootcodes.toml")
    with pytest.raises(UserError, match=r"missing key 'bootcode\[0\].why'"):
        bootcodes.load_table()


def test_a_secret_in_the_menu_is_refused_by_its_key(make_settings: Callable[..., Settings]) -> None:
    settings, secret = make_settings(), token()
    boot = replace(settings.profile.boot, bootcodes=("cde", f"key={secret}"))
    with pytest.raises(UserError, match=r"profile .* secret: boot\.bootcodes\.1: a GitHub token") as caught:
        iso.menu_values(settings.paths, replace(settings.profile, boot=boot))
    assert secret not in str(caught.value)
