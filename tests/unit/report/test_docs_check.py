# SPDX-License-Identifier: MIT
"""The documents: what they say is true, the code blocks are sound, the site builds."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tasks.checks import secrets
from tasks.cli import variables
from tasks.cli.commands import documented
from tasks.config import check, compiler, inheritance, profile, recipe, sources, system
from tasks.origins import kinds
from tasks.report import docs, docs_check
from tasks.report.docs_check import Block
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.vm import matrix

README_LINES = 150
PAGES = docs_check.pages()
MARKED = [(path, block) for path in PAGES for block in docs_check.blocks(path.read_text())]


def named(pair: tuple[Path, Block]) -> str:
    """Return what a test of a block is called: page and line."""
    return f"{pair[0].name}:{pair[1].line}"


def blocks_with(mark: str, about: str = "") -> list[tuple[Path, Block]]:
    """Return the blocks of all pages that have that mark."""
    return [(path, block) for path, block in MARKED if block.mark == mark and about in ("", block.about)]


# --- the project's documents ---------------------------------------------------


def test_the_documents_are_true() -> None:
    texts = {path: path.read_text() for path in PAGES}
    assert docs_check.mistakes(texts, [*docs.declared(), *documented()], variables.VARIABLES) == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = (CHECKOUT.root / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES
    index = (CHECKOUT.root / "docs/index.md").read_text()
    for page in (CHECKOUT.root / "docs").rglob("*.md"):
        assert f"](docs/{page.name})" in text
        assert page.name == "index.md" or f"]({page.name})" in index


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = ["properdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=CHECKOUT.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in (CHECKOUT.root / "docs").rglob("*.md")}
    assert pages <= {page.stem for page in (tmp_path / "site").glob("*.html")}
    # A page needs no other host to be shown.
    for page in (tmp_path / "site").glob("*.html"):
        assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?:', page.read_text())


@pytest.mark.parametrize("pair", blocks_with("check"), ids=named)
def test_toml_blocks_fit_the_schemas(pair: tuple[Path, Block], tmp_path: Path) -> None:
    block = pair[1]
    data, place = tomllib.loads(block.text), named(pair)
    if block.about == "recipe":
        toml_schema.build(data, recipe.Recipe, place, "")
    elif block.about == "checks":
        toml_schema.build(data, check.CheckFile, place, "")
    elif block.about == "matrix":
        file = tmp_path / "matrix.toml"
        file.write_text(block.text)
        assert matrix.cells(matrix.load(file), "apt", only=False)
    elif block.about == "secrets":
        assert data.keys() == {"allow"}
        for entry in data["allow"]:
            toml_schema.build(entry, secrets.Allow, place, "allow")
    else:
        assert block.about == "profile"
        base = toml_schema.read_toml(CHECKOUT.root / "profiles/apt.toml")
        whole = inheritance.completed(inheritance.merged(base, data), place)
        made = toml_schema.build(whole, profile.Profile, place, "")
        for extension in made.extensions:
            if extension.alternative:
                recipe.with_alternative(extension.name, recipe.load(extension.name), extension.alternative)


@pytest.mark.parametrize(
    "pair", [pair for pair in blocks_with("file") if pair[1].about.endswith(".toml")], ids=named
)
def test_toml_files_of_worked_examples_fit_the_schemas(pair: tuple[Path, Block]) -> None:
    data, kind = tomllib.loads(pair[1].text), pair[1].about.split("/")[0]
    if kind == "profiles":
        base = toml_schema.read_toml(CHECKOUT.root / "profiles" / f"{data['inherit']}.toml")
        toml_schema.build(inheritance.merged(base, data), profile.Profile, named(pair), "")
    else:
        assert kind == "extensions"
        toml_schema.build(data, recipe.Recipe, named(pair), "")


def test_the_marks_say_what_a_test_can_do() -> None:
    for path, block in MARKED:
        if block.mark == "run":
            assert block.about in ("python", "tools", "python, fails", "tools, fails"), named((path, block))
            assert block.language == "sh"
        elif block.mark == "output":
            assert block.about == "lines"
        elif block.mark == "check":
            assert block.language == "toml"


def test_the_pages_list_every_key_kind_and_variable() -> None:
    profiles, recipes = ((CHECKOUT.root / f"docs/{name}.md").read_text() for name in ("profiles", "recipes"))
    caches, reference, qemu = (
        (CHECKOUT.root / f"docs/{name}.md").read_text() for name in ("caches", "reference", "qemu")
    )

    def lacking(text: str, *schemas: type) -> list[str]:
        names = [field.name for schema in schemas for field in dataclasses.fields(schema)]
        return [name for name in names if not re.search(rf"`(\w+\.)?{name}\b", text)]

    tables = (profile.Profile, profile.Kernel, sources.Core, profile.Extension, profile.Boot)
    ours = {"kernel", "core", "boot", "system", "disk", "compiler", "extensions", "images", "check"}
    assert set(lacking(profiles, *tables, profile.Disk, system.System)) <= ours
    assert all(re.search(rf"\[+{name}\]+", profiles) for name in ours)
    assert lacking(caches, compiler.Compiler) == []
    assert lacking(qemu, check.Check) == []
    assert set(lacking(recipes, recipe.Recipe, recipe.Info, *kinds.ALL)) <= {"kind"}
    used = [tomllib.loads(block.text) for _, block in blocks_with("check", "recipe")]
    told = {origin["kind"] for made in used for origin in made["origin"]}
    assert told == set(toml_schema.kinds(kinds.ALL))
    rows = set(re.findall(r"^\| `([a-z_]+)=", reference, re.MULTILINE))
    assert rows == set(variables.VARIABLES)


def test_the_architecture_lists_every_package_in_the_order_of_the_contract() -> None:
    text = (CHECKOUT.root / "docs/architecture.md").read_text()
    listed = re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)
    assert set(listed) == {path.parent.name for path in (CHECKOUT.root / "tasks").glob("*/__init__.py")}
    contract = toml_schema.read_toml(CHECKOUT.root / "pyproject.toml")["tool"]["importlinter"]["contracts"][0]
    for layer in reversed(contract["layers"]):
        row = re.findall("[a-z]+", layer)
        assert set(listed[: len(row)]) == set(row)
        listed = listed[len(row) :]


def test_troubleshooting_quotes_messages_that_exist() -> None:
    sources = [CHECKOUT.root / "doit", *(CHECKOUT.root / "tasks").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    text = (CHECKOUT.root / "docs/troubleshooting.md").read_text()
    titles = re.findall(r"^### (.*)", text, re.MULTILINE)
    quoted = [span for title in titles for span in title.split("`")[1::2]]
    assert len(quoted) > 20
    for message in quoted:
        message = message.removeprefix("warning: ")  # the logger puts it before every warning
        for piece in filter(None, map(str.strip, message.split("…"))):
            assert piece in code, f"no message says {piece!r}"


NO_MARK = "a code block has no mark: add run, not run, file, check, output, or the language text"


# --- what the checks find --------------------------------------------------------


def wrong(text: str) -> list[str]:
    """Return what is wrong with a page of that text, without page and line."""
    page = CHECKOUT.root / "docs/page.md"
    found = docs_check.mistakes({page: text}, [*docs.declared(), *documented()], variables.VARIABLES)
    return [line.split(": ", 1)[1] for line in found]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[x](nowhere.md)", "the link nowhere.md names a file that does not exist"),
        ("# One\n\n[x](#two)", "the link #two names a heading that does not exist"),
        ("`./doit isso`", "there is no task isso"),
        ("`./doit tcz:nothing`", "there is no task tcz:nothing"),
        ("`./doit qemu --memry 5`", "qemu has no option --memry"),
        ("`./doit iso --evnts f`", "iso has no option --evnts"),
        ("`./doit check --events f`", "check has no option --events"),
        ("`./doit iso profle=apt`", "there is no variable profle="),
        ("`profle=apt`", "there is no variable profle="),
        ("`kconfig/nothing.config`", "there is no kconfig/nothing.config"),
        (
            "```sh\nls\n```",
            NO_MARK,
        ),
        (
            "```\nls\n```",
            NO_MARK,
        ),
        ("<!-- run: python -->\n```sh\ntrue && ./doit isso && true\n```", "there is no task isso"),
    ],
)
def test_mistakes_are_found(text: str, mistake: str) -> None:
    assert wrong(text) == [mistake]


@pytest.mark.parametrize(
    "text",
    [
        "# One two\n\n[x](#one-two) [y](contributing.md#tests) [z](../README.md) <https://x.org>",
        "`./doit iso --events f`",
        "`./doit iso -n 2 profile=apt cache=/x`, `./doit tcz:NAME`, `./doit help qemu`, `./doit lock`",
        '`kconfig/qemu.config`, `patches/SERIES/`, `profiles/*.lock.toml`, `place = "onboot"`',
        "```text\n./doit isso\n```",
        "<!-- not run: for a reason -->\n```sh\n./doit iso # ./doit isso\n```",
        "<!-- file: extensions/mine/recipe.toml -->\n```toml\n```\n\n`./doit tcz:mine`, `extensions/mine/`",
    ],
)
def test_what_is_right_is_let_be(text: str) -> None:
    assert wrong(text) == []


def test_blocks_know_their_line_language_mark_and_text() -> None:
    text = "a\n\n<!-- run: python -->\n```sh\nls\n```\n\n````text\n```\nx\n```\n````\n"
    assert docs_check.blocks(text) == [
        Block(4, "sh", "run", "python", "ls\n"),
        Block(8, "text", "", "", "```\nx\n```\n"),
    ]
