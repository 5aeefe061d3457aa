# SPDX-License-Identifier: MIT
"""The report of the built image, by the command and in a browser; sizes and graph by the real tools."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tasks.config.settings import Settings
from tasks.engine import run_history
from tasks.engine.reason import Kind, Reason
from tasks.engine.run_history import Run, TaskRun
from tasks.report import docs, graph, report, sizes
from tasks.util.checkout import CHECKOUT
from tasks.vm.results import Record, Result, whole
from tests.support.built import built, doit
from tests.support.chromium import chromium, complaints, loaded

EVIL = "tcz:<script>document.title='no'</script><img src=x onerror=alert(1)>"
LONG = "tcz:" + "a-very-long-name-" * 20


@pytest.fixture(scope="module")
def settings() -> Settings:
    return built()


@pytest.fixture(scope="module")
def written(settings: Settings) -> Path:
    """The page that `./doit report` writes, whose path it prints."""
    done = doit(CHECKOUT.root, "report", f"profile={settings.paths.name}")
    assert done.status == 0, done.output
    assert str(settings.paths.output / "report.html") in done.output.splitlines()
    return settings.paths.output / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def run_of(settings: Settings) -> Run:
    """A run with tasks side by side, a failure, a cached one, and names that try to be code."""
    iso = {settings.paths.iso.name: settings.paths.iso.stat().st_size - 1000}
    return Run(
        "20260102T030405.000Z",
        1767323045.0,
        100.0,
        "failed",
        ("iso",),
        (
            TaskRun(
                "kernel", 1767323045.0, 80.0, 150.5, "ok", (Reason(Kind.CHANGED, "kconfig/qemu.config"),)
            ),
            TaskRun("tcz:attr", 1767323055.0, 2.0, None, "from cache", (Reason(Kind.NOT_DONE),)),
            TaskRun(EVIL, 1767323065.0, 30.0, None, "failed", (Reason(Kind.CHANGED, EVIL),)),
            TaskRun(LONG, 1767323075.0, 9.0, None, "ok", (Reason(Kind.CHANGED, f"{LONG}/{LONG}"),)),
            TaskRun("iso", 1767323140.0, None, None, "cut", (Reason(Kind.MISSING, "the.iso"),), iso),
        ),
        ("fetch", EVIL),
    )


def cells(browser: webdriver.Chrome, css: str) -> list[str]:
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, css)]


def test_the_page_of_the_last_build(browser: webdriver.Chrome, settings: Settings, written: Path) -> None:
    runs, _ = run_history.load(settings.paths.output)
    browser.set_window_size(1280, 2600)
    browser.get(written.as_uri())
    browser.save_screenshot(str(settings.paths.output / "report.png"))
    assert complaints(browser) == []
    assert loaded(browser) == []
    bars = browser.find_elements(By.CSS_SELECTOR, ".waterfall rect.bar")
    assert len(bars) == (len(runs[-1].tasks) if runs else 0)
    assert cells(browser, "#why tbody th") == ([task.name for task in runs[-1].tasks] if runs else [])
    assert len(cells(browser, "#builds tbody th")) == len(runs)
    assert (settings.paths.kernel / "release").read_text().strip() in browser.find_element(
        By.CSS_SELECTOR, "dl"
    ).text
    # Sizes are those of the files, in the table and in the list of modules.
    shown = {
        row.find_element(By.TAG_NAME, "th").text.strip(): row.find_elements(By.TAG_NAME, "td")[0]
        for row in browser.find_elements(By.CSS_SELECTOR, "#sizes tbody tr")
    }
    files = [
        settings.paths.iso,
        settings.paths.core,
        settings.paths.kernel / "vmlinuz64",
        *settings.paths.tcz.glob("*.tcz"),
    ]
    for path in files:
        assert int(shown[path.name].get_attribute("data-key") or "") == path.stat().st_size
    modules = list((settings.paths.kernel / "modules").rglob("*.ko*"))
    assert len(modules) > 1
    assert cells(browser, "#modules > p")[0] == (
        f"{len(modules):,} modules, {sum(path.stat().st_size for path in modules):,} bytes as installed."
    )
    nodes = set(cells(browser, "#graph svg .node text"))
    assert {"kernel", "core", "iso", "kconfig/"} <= nodes
    fragments = cells(browser, "#config summary")
    assert any(text.startswith("kconfig/qemu.config") for text in fragments)


def test_the_same_records_give_the_same_page(settings: Settings, written: Path) -> None:
    before = written.read_bytes()
    assert doit(CHECKOUT.root, "report", f"profile={settings.paths.name}").status == 0
    assert written.read_bytes() == before
    assert str(CHECKOUT.root).encode() not in before


def test_hostile_names_overlap_and_sorting_in_a_browser(
    browser: webdriver.Chrome, settings: Settings, tmp_path: Path
) -> None:
    one = run_of(settings)
    tasks = [task for task in docs.declared() if task.name in ("kconfig", "kernel", "core", "iso", "rootfs")]
    hostile = SimpleNamespace(**{**vars(tasks[0]), "name": EVIL, "targets": [f"/{EVIL}"], "subtask_of": None})
    page = tmp_path / "report.html"
    parts = sizes.objects(settings.paths) if sizes.has_objects(settings.paths) else []
    found = sizes.collect(settings.paths, [one])
    failed = Result(EVIL, "failed", 1.0, f"{LONG}{LONG}", LONG * 20)
    records = [Record(1767323045.0, 1.0, (whole("bios-cd", [failed, Result("fine", "passed")], 1.0),))]
    built_of = (settings.paths, settings.profile, [one], found, parts, [*tasks, hostile], records)
    page.write_bytes(report.page(*built_of))
    browser.set_window_size(1280, 1600)
    browser.get(page.as_uri())
    assert browser.title == f"tcbuild {settings.paths.name}: report"
    assert browser.find_elements(By.CSS_SELECTOR, "img, iframe, script:not(:last-of-type)") == []
    assert EVIL in cells(browser, "#why tbody th")
    assert EVIL in cells(browser, "#tests tbody td")
    browser.find_element(By.CSS_SELECTOR, "#tests td summary").click()
    assert LONG in browser.find_element(By.CSS_SELECTOR, "#tests td pre").text
    # Bars: as many as tasks; those that ran side by side overlap.
    boxes = [bar.rect for bar in browser.find_elements(By.CSS_SELECTOR, ".waterfall rect.bar")]
    assert len(boxes) == len(one.tasks)
    kernel, attr, evil = boxes[:3]
    assert kernel["x"] < attr["x"] < evil["x"] < kernel["x"] + kernel["width"]
    assert attr["width"] < evil["width"] < kernel["width"]
    # Nothing is wider than the window, whatever it is called.
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(width) == 0
    # The change of the ISO against the record.
    row = browser.find_element(By.XPATH, f"//section[@id='sizes']//tr[th='{settings.paths.iso.name}']")
    assert "+1,000" in row.text
    assert len(row.find_elements(By.TAG_NAME, "polyline")) == 1
    # Sorted by a click and by the keyboard, numbers as numbers, largest first.
    took = browser.find_element(By.XPATH, "//section[@id='why']//button[text()='Took']")
    took.click()
    assert cells(browser, "#why tbody th") == ["kernel", EVIL, LONG, "tcz:attr", "iso"]
    took.send_keys(Keys.ENTER)
    assert cells(browser, "#why tbody th") == ["iso", "tcz:attr", LONG, EVIL, "kernel"]
    assert took.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    # Found by a word.
    field = browser.find_element(By.CSS_SELECTOR, "#sizes input")
    field.send_keys("attr.TCZ")
    rows = browser.find_elements(By.CSS_SELECTOR, "#sizes tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows if row.is_displayed()] == ["attr.tcz"]
    field.send_keys(" nothing")
    assert "Nothing found" in browser.find_element(By.CSS_SELECTOR, "#sizes label").text
    field.clear()
    assert complaints(browser) == []
    assert loaded(browser) == []
    browser.execute_script("window.scrollTo(0, 0)")
    browser.save_screenshot(str(settings.paths.output / "report-hostile.png"))


def test_dark_and_narrow(browser: webdriver.Chrome, settings: Settings, written: Path) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    browser.set_window_size(500, 900)
    browser.get(written.as_uri())
    style = "return getComputedStyle(document.body)"
    ink, paper = (
        sum(map(int, re.findall(r"\d+", browser.execute_script(f"{style}.{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert ink > 2 * paper
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(width) == 0, "tables scroll, the page does not"


def test_sizes_as_json_are_those_of_the_files(settings: Settings) -> None:
    done = doit(CHECKOUT.root, "size", "--json", f"profile={settings.paths.name}")
    assert done.status == 0, done.output
    found = {item["path"]: item["bytes"] for item in json.loads(done.output)["sizes"]}
    for path in (
        settings.paths.iso,
        settings.paths.core,
        settings.paths.kernel / "vmlinuz64",
        *settings.paths.tcz.glob("*.tcz"),
    ):
        assert found[str(path.relative_to(settings.paths.output))] == path.stat().st_size
    done = doit(CHECKOUT.root, "size", "no-such-thing", f"profile={settings.paths.name}")
    assert done.status != 0
    assert "nothing built is called 'no-such-thing'" in done.output
    assert "Traceback" not in done.output


SOURCE = "int {name}_table[{size}] = {{1}}; int {name}_empty[{size}]; int {name}(void) {{ return 7; }}\n"


@pytest.mark.parametrize("archives", ["one", "many"])
def test_what_a_kernel_is_made_of(make_settings: Callable[..., Settings], archives: str) -> None:
    """Thin archives as kbuild makes them: one vmlinux.a, or a built-in.a in each top folder."""
    settings = make_settings()
    sources = {"fs/ext4/inode": 1000, "fs/ext4/namei": 10, "mm/slub": 100}
    for name, size in sources.items():
        path = settings.paths.build / f"{name}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE.format(name=path.stem, size=size))
        command = ["gcc", "-c", "-fno-asynchronous-unwind-tables", f"{name}.c", "-o", f"{name}.o"]
        subprocess.run(command, cwd=settings.paths.build, check=True)
    members = (
        {"vmlinux.a": list(sources)}
        if archives == "one"
        else {
            "fs/built-in.a": ["fs/ext4/inode", "fs/ext4/namei"],
            "mm/built-in.a": ["mm/slub"],
        }
    )
    for archive, names in members.items():
        command = ["ar", "cDPrST", archive, *(f"{name}.o" for name in names)]
        subprocess.run(command, cwd=settings.paths.build, check=True)
    parts = sizes.objects(settings.paths)
    assert [part.name for part in parts] == ["fs/ext4/inode.o", "mm/slub.o", "fs/ext4/namei.o"]
    assert [(part.data, part.bss) for part in parts] == [(4000, 4000), (400, 400), (40, 40)]
    assert all(0 < part.text < 100 for part in parts)
    assert [(part.name, part.data) for part in sizes.subsystems(parts)] == [("fs/ext4", 4040), ("mm", 400)]


def test_the_graph_in_each_format(settings: Settings) -> None:
    profile = f"profile={settings.paths.name}"
    said = doit(CHECKOUT.root, "graph", "core", profile).output
    again = subprocess.run(["dot", "-Tplain"], input=said, capture_output=True, text=True, check=True).stdout
    nodes = {line.split()[1].strip('"') for line in again.splitlines() if line.startswith("node")}
    assert {"fetch", "kernel", "core"} <= nodes
    assert not {"iso", "disk", "mirror"} & nodes
    picture = ElementTree.fromstring(doit(CHECKOUT.root, "graph", "--format", "svg", "core", profile).output)
    titles = {title.text for title in picture.iter(f"{{{graph.SVG}}}title")}
    assert nodes <= titles
    assert doit(CHECKOUT.root, "graph", "--format", "mermaid", profile).output.startswith("flowchart LR\n")
    bad = doit(CHECKOUT.root, "graph", "--format", "pdf", profile)
    assert bad.status != 0
    assert "dot, mermaid or svg" in bad.output
