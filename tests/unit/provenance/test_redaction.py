# SPDX-License-Identifier: MIT
"""No secret and no folder of the machine gets into a manifest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable

import pytest

from tasks.config.settings import Settings
from tasks.provenance import redaction
from tasks.util.checkout import CHECKOUT
from tests.support.settings import with_values

HASH = "$6$salt$" + "a" * 86


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("curl http://me:pw@host/x", "curl http://***@host/x"),
        ("pip --index-url=https://t0ken@host/simple", "pip --index-url=https://***@host/simple"),
        ("npm --//host/:_authToken=abc123 x", "npm --//host/:_authToken=*** x"),
        ("x --password hunter y", "x --password *** y"),
        ("X_PASSWORD=hunter y", "X_PASSWORD=*** y"),
        ("curl -H 'Authorization: Bearer abc.def'", "curl -H 'Authorization: Bearer ***'"),
        ("api_key='s3cret' x", "api_key='***' x"),
        ("get http://host/a@b --passwords", "get http://host/a@b --passwords"),
    ],
)
def test_credentials_are_masked(before: str, after: str) -> None:
    assert redaction.text(before) == after


def test_a_password_hash_is_replaced_by_a_digest_that_shows_a_change() -> None:
    shown = redaction.table({"users": [{"name": "tc", "password": HASH}, {"name": "x", "password": "*"}]})
    assert HASH not in json.dumps(shown)
    first, second = shown["users"]
    assert first["password"].startswith("sha256:")
    assert first["password"] != redaction.digest(HASH + "b")
    assert second["password"] == "*", "a locked account is no secret"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("make -C {output}/linux O={output}/build", "make -C ${{OUTPUT}}/linux O=${{OUTPUT}}/build"),
        ("'K=-fx={output}/linux=.'", "'K=-fx=${{OUTPUT}}/linux=.'"),
        ("cat {root}/boot/x {root}", "cat ${{CHECKOUT}}/boot/x ${{CHECKOUT}}"),
        ("cat {root}-other/x", "cat {root}-other/x"),
        ("mksquashfs a b -processors 2", "mksquashfs a b -processors ${{JOBS}}"),
        ("env MAKEFLAGS=-j3 make", "env MAKEFLAGS=-j${{JOBS}} make"),
        ("mcopy {output}/.efi.ab_12345.part/x", "mcopy ${{OUTPUT}}/efi/x"),
        ("CCACHE_DIR={cache}/ccache make -j16 all", "CCACHE_DIR=${{CACHE}}/ccache make -j${{JOBS}} all"),
        ("env A=b GOMAXPROCS=2 go build -p=2 x", "env A=b GOMAXPROCS=${{JOBS}} go build -p=${{JOBS}} x"),
        ("x -o {output}/.t.iso.ab_3x9Z0.part y", "x -o ${{OUTPUT}}/t.iso y"),
        ("x -pf /tmp/tmp3sz0zbaj.pseudo", "x -pf ${{TMP}}"),
        ("x /tmp/tcbuild-tcz-abc/extension.tar", "x ${{TMP}}/extension.tar"),
    ],
)
def test_folders_of_the_machine_get_names(
    make_settings: Callable[..., Settings], line: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/tmp")
    settings = make_settings()
    values = {"output": settings.paths.output, "cache": settings.paths.cache, "root": CHECKOUT.root}
    assert redaction.command(settings.paths, line.format(**values)) == shown.format(**values)


def test_the_output_folder_counts_before_the_checkout_it_lies_in(
    make_settings: Callable[..., Settings],
) -> None:
    settings = with_values(make_settings(), output=CHECKOUT.root / "artifacts" / "apt")
    assert (
        redaction.command(settings.paths, f"x {CHECKOUT.root}/artifacts/apt/y {CHECKOUT.root}/z")
        == "x ${OUTPUT}/y ${CHECKOUT}/z"
    )
