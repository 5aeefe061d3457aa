# SPDX-License-Identifier: MIT
"""The page of a mirror: what it shows and what it lets through."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.image import mirror_page
from tasks.image.mirror_page import Image, MirrorExtension


class Reader(HTMLParser):
    """Collects what a browser would see: tags, attributes, text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


PLAIN = MirrorExtension(
    "a", 1, "m", "s", info={"Description": "d", "Tags": "t", "Comments": "c"}, paths=("p",), files=("a.tcz",)
)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_whatever_an_extension_says_stays_text(hostile: str) -> None:
    info = dict.fromkeys(PLAIN.info, hostile) | {"Original-site": hostile, "Version": hostile}
    spoiled = replace(PLAIN, info=info, paths=(hostile,))
    image = Image(hostile, "x.tar", 1, "s", "d")
    page = Reader(mirror_page.page(hostile, "f", [spoiled], [image]))
    plain = Reader(mirror_page.page("t", "f", [PLAIN], [replace(image, name="n")]))
    kinds = ("dt", "dd")  # fields without a value are left out

    def shape(reader: Reader) -> list[str]:
        return [tag for tag, _ in reader.seen if tag not in kinds and tag != "br"]

    if not re.match("https?://", hostile):
        assert shape(page) == shape(plain)
    assert hostile in page.text


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "@EXTENSIONS@ @TITLE@",
        "</title>",
        "&lt;b&gt;",
    ],
)
def test_known_tricks(hostile: str) -> None:
    info = {"Description": hostile, "Original-site": f"https://x/{hostile}", "Comments": f"a\n{hostile}"}
    page = mirror_page.page(hostile, "f", [replace(PLAIN, info=info, paths=(hostile,))])
    reader = Reader(page)
    assert [tag for tag, _ in reader.seen].count("script") == 1
    assert not any(tag == "img" or any(name.startswith("on") for name in attrs) for tag, attrs in reader.seen)
    assert reader.text.count(hostile) == 6  # title twice, description, site, comment, path


def test_only_web_addresses_become_links() -> None:
    for site, linked in (("https://a.b/c?d&e", True), ("javascript:alert(1)", False), ("not known", False)):
        page = Reader(mirror_page.page("t", "f", [replace(PLAIN, info={"Original-site": site})]))
        assert (site in [attrs.get("href") for _, attrs in page.seen]) == linked
        assert site in page.text


def test_the_policy_allows_the_pages_own_script_and_style_alone() -> None:
    page = mirror_page.page("t", "f", [PLAIN]).decode()
    policy = next(attrs["content"] for tag, attrs in Reader(page.encode()).seen if "http-equiv" in attrs)
    assert policy is not None
    for kind in ("script", "style"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_sizes_and_closures() -> None:
    entries = {
        "a": MirrorExtension("a", 3 << 20, "", "", needs=("b", "c")),
        "b": MirrorExtension("b", 1 << 20, "", "", needs=("a",)),
        "c": MirrorExtension("c", 100, "", ""),
    }
    assert sorted(mirror_page.closure("a", entries)) == ["a", "b", "c"]
    page = Reader(mirror_page.page("t", "f", list(entries.values())))
    assert "3.0 MiB (3,145,728 bytes); 4.0 MiB with all it needs (3 extensions)" in page.text
    assert "100 B (100 bytes)" in page.text
    assert "t: 3 extensions, 4.0 MiB." in page.text


def test_names_are_quoted_in_links() -> None:
    entry = replace(PLAIN, name="c++", files=("c++.tcz",))
    hrefs = [attrs.get("href") for _, attrs in Reader(mirror_page.page("t", "f", [entry])).seen]
    assert "f/c%2B%2B.tcz" in hrefs
    assert os.fsencode("usr/\udcff") not in mirror_page.page(
        "t", "f", [replace(PLAIN, paths=("usr/\udcff",))]
    )
