# SPDX-License-Identifier: MIT
"""HTML pages: values are escaped, and the policy allows the template's own code alone."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tasks.util import html

SCRIPT = "let a = 1"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(f"<meta {{{{ policy }}}}><script>{SCRIPT}</script><p>{{{{ name }}}}</p>")
    return path


def test_the_policy_names_the_scripts_hash_and_nothing_else(template: Path) -> None:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    page = html.render(template, name="x").decode()
    assert f"script-src 'sha256-{digest}'; style-src 'none'" in page
    assert "default-src 'none'" in page


def test_values_are_escaped(template: Path) -> None:
    page = html.render(template, name="<script>evil()</script>").decode()
    assert "<p>&lt;script&gt;evil()&lt;/script&gt;</p>" in page


def test_a_byte_that_is_no_utf8_is_shown(template: Path) -> None:
    assert rb"<p>\udcff</p>" in html.render(template, name="\udcff")


def test_a_missing_value_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="name"):
        html.render(template)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), ((1 << 20) - 1, "1024 KiB"), (3 << 19, "1.5 MiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert html.size_text(size) == text


def test_counts_for_people() -> None:
    assert [html.count(number, "file") for number in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
