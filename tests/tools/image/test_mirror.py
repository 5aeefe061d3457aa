# SPDX-License-Identifier: MIT
"""The built mirror: against what its extensions really hold, as Tiny Core's tools read it, in a browser."""

from __future__ import annotations

import functools
import gzip
import http.server
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tasks.config import mirror_layout
from tasks.config.settings import Settings
from tasks.formats import tcz
from tasks.image import mirror
from tests.support.built import built
from tests.support.chromium import chromium, complaints, loaded

BUSYBOX = "/bin/busybox"
# How Tiny Core's scripts read databases of paragraphs.
PARAGRAPH = """awk -v name="$1" 'BEGIN {FS="\\n";RS=""} $1 == name {for (i=2; i<=NF; i++) print $i}' $2"""


@pytest.fixture(scope="module")
def settings() -> Settings:
    found = built()
    if not found.profile.core.rootfs:
        pytest.skip("recipes are for roots made of packages")
    assert (mirror_layout.mirror(found.paths) / "index.html").is_file(), "run these tests by ./doit test"
    return found


@pytest.fixture(scope="module")
def folder(settings: Settings) -> Path:
    """The mirror's folder of extensions."""
    return mirror_layout.mirror(settings.paths) / mirror_layout.mirror_folder(settings.profile)


def said(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def applet(script: str, cwd: Path, *words: str) -> str:
    """Run a line of BusyBox ash, which Tiny Core's scripts are written in; `words` are its $1, $2..."""
    return said(BUSYBOX, "ash", "-c", script, "ash", *words, cwd=cwd)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.tcz"))


def test_every_checksum_is_right(settings: Settings, folder: Path) -> None:
    assert len(names(folder)) > 1
    for name in names(folder):
        assert said("md5sum", "-c", f"{name}.md5.txt", cwd=folder) == f"{name}: OK\n"
    said("md5sum", "--strict", "-c", "md5.db", cwd=folder)
    said("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=mirror_layout.mirror(settings.paths))
    listed = {
        line[66:] for line in (mirror_layout.mirror(settings.paths) / "SHA256SUMS").read_text().splitlines()
    }
    files = [path for path in mirror_layout.mirror(settings.paths).rglob("*") if not path.is_dir()]
    assert listed == {str(path.relative_to(mirror_layout.mirror(settings.paths))) for path in files} - {
        "SHA256SUMS"
    }
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in files)


@pytest.mark.parametrize("name", tcz.DATABASES)
def test_packed_databases_are_the_plain_ones(folder: Path, name: str) -> None:
    packed = (folder / f"{name}.gz").read_bytes()
    assert gzip.decompress(packed) == (folder / name).read_bytes()
    assert packed[3:8] == bytes(5)  # RFC 1952: no flags (so no name), time 0


def test_databases_say_what_the_extensions_are(folder: Path) -> None:
    """As the tools of Tiny Core's Core-scripts look things up, each answer found in another way too."""
    assert (folder / "info.lst").read_text().split() == names(folder)
    for name in names(folder):
        # tce-update compares this line with the whole of .md5.txt.
        assert applet('grep -w " $1" md5.db', folder, name) == (folder / f"{name}.md5.txt").read_text()
        # tce-size
        size = applet("""grep -w "^$1" sizelist | awk '{print $2}'""", folder, name)
        assert int(size) == (folder / name).stat().st_size
        # update-everything takes dep.db apart into .dep files.
        record = applet(PARAGRAPH, folder, name, "dep.db")
        dep = folder / f"{name}.dep"
        assert record == (dep.read_text() if dep.exists() else "")
        assert not dep.exists() or record
        # search.sh takes a line apart at white space.
        tags = applet(
            """awk -v name="$1" '$1 == name {for (i=2; i<=NF; i++) print $i}' tags.db""", folder, name
        )
        info = folder / f"{name}.info"
        own = (
            [line for line in info.read_text().splitlines() if line.startswith("Tags:")]
            if info.exists()
            else []
        )
        assert tags.split() == "".join(own).removeprefix("Tags:").split()


def test_provides_db_has_every_path_of_the_squashfs_files(folder: Path) -> None:
    for name in names(folder):
        lines = said("unsquashfs", "-lls", "-d", "", name, cwd=folder).splitlines()
        paths = [line.split(maxsplit=5)[5] for line in lines if line[:1] in "-lcbps" and "/" in line]
        held = sorted(path.split(" -> ")[0].removeprefix("/") for path in paths)
        assert held
        assert sorted((folder / f"{name}.list").read_text().splitlines()) == held
        assert sorted(applet(PARAGRAPH, folder, name, "provides.db").splitlines()) == held
    # provides.sh: which extension brings a path
    find = """awk 'BEGIN {FS="\\n";RS=""} /bin\\/getfattr\\n/||/bin\\/getfattr$/{print $1}' provides.db"""
    assert applet(find, folder) == "attr.tcz\n"


def test_every_link_of_the_page_leads_to_a_file_of_the_tree(settings: Settings, folder: Path) -> None:
    targets: list[str] = []
    places: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found = dict(attrs)
            assert not {"src", "srcset", "action", "style"} & set(found)
            targets.append(found.get("href") or "")
            places.add(found.get("id") or "")

    Reader().feed((mirror_layout.mirror(settings.paths) / "index.html").read_text())
    relative = {
        unquote(target) for target in targets if target and not target.startswith(("https://", "http://"))
    }
    for target in relative:
        if target.startswith("#"):
            assert target[1:] in places
        else:
            path = (mirror_layout.mirror(settings.paths) / target).resolve()
            assert path.is_file()
            assert path.is_relative_to(mirror_layout.mirror(settings.paths).resolve())
    beside = {path.name for name in names(folder) for path in folder.glob(f"{name}*")}
    assert {Path(target).name for target in relative} >= beside


def test_building_again_gives_the_same_tree(settings: Settings) -> None:
    def state() -> dict[str, tuple[int, float, bytes]]:
        return {
            str(path.relative_to(mirror_layout.mirror(settings.paths))): (
                path.stat().st_mode,
                path.stat().st_mtime,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in [
                mirror_layout.mirror(settings.paths),
                *mirror_layout.mirror(settings.paths).rglob("*"),
            ]
        }

    before = state()
    os.utime(mirror_layout.mirror(settings.paths) / "index.html")
    (mirror_layout.mirror(settings.paths) / "stray").touch()
    extensions = [
        name.removesuffix(".tcz")
        for name in names(
            mirror_layout.mirror(settings.paths) / mirror_layout.mirror_folder(settings.profile)
        )
    ]
    mirror.build(settings.paths, settings.profile, extensions)
    assert state() == before


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    """Serves the mirror below /sub/, as a web host may."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def translate_path(self, path: str) -> str:
            return super().translate_path(path.removeprefix("/sub"))

    handler = functools.partial(Handler, directory=str(mirror_layout.mirror(settings.paths)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/sub/"
        server.shutdown()


def shown(browser: webdriver.Chrome) -> list[str]:
    """Return the extensions one can see."""
    titles = browser.find_elements(By.CSS_SELECTOR, "article h3")
    return [title.text.removesuffix(".tcz") for title in titles if title.is_displayed()]


def type_in(browser: webdriver.Chrome, text: str) -> str:
    """Replace what stands in the search field, and return what the page says of the result."""
    field = browser.find_element(By.ID, "search")
    field.clear()
    field.send_keys(text)
    return browser.find_element(By.ID, "found").text


@pytest.mark.parametrize("by", ["file", "http"])
def test_the_page_in_a_browser(browser: webdriver.Chrome, settings: Settings, address: str, by: str) -> None:
    """Search over names, descriptions, tags and paths; links; nothing blocked, missing or thrown."""
    every = [
        name.removesuffix(".tcz")
        for name in names(
            mirror_layout.mirror(settings.paths) / mirror_layout.mirror_folder(settings.profile)
        )
    ]
    browser.get(address if by == "http" else (mirror_layout.mirror(settings.paths) / "index.html").as_uri())
    assert shown(browser) == every
    assert type_in(browser, "") == f"{len(every)} extensions"
    for words, name in (
        ("attr.tcz", "attr"),
        ("EXTENDED attributes", "attr"),
        ("network firewall", "iptables"),
        ("bin/runc", "containerd"),
    ):
        assert type_in(browser, words).endswith(f" of {len(every)} extensions")
        assert name in shown(browser)
        assert len(shown(browser)) < len(every)
    visible = [line.text for line in browser.find_elements(By.CSS_SELECTOR, "#ext-containerd .paths li")]
    assert [text for text in visible if text] == ["usr/bin/runc", "usr/sbin/runc"]
    assert type_in(browser, "no such thing") == "Nothing found"
    assert shown(browser) == []
    type_in(browser, "coreutils")
    browser.find_element(By.CSS_SELECTOR, "#ext-coreutils dd a[href='#ext-attr']").click()
    assert "attr" in shown(browser)
    browser.find_element(By.CSS_SELECTOR, "header summary").click()
    hint = browser.find_element(By.CSS_SELECTOR, "pre").text
    assert f"echo {address if by == 'http' else 'ADDRESS-OF-THIS-FOLDER/'} > /opt/tcemirror" in hint
    link = browser.find_element(By.CSS_SELECTOR, "#ext-attr h3 a")
    assert link.get_attribute("href") == browser.current_url.rsplit("/", 1)[0] + (
        f"/{mirror_layout.mirror_folder(settings.profile)}/attr.tcz"
    )
    assert complaints(browser) == []
    assert loaded(browser) == []
