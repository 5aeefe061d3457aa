# SPDX-License-Identifier: MIT
"""Check of the documents: links, commands, options, variables, paths, code blocks.

The documents are the Markdown files at the top of the checkout and in docs/.  A mark is an
HTML comment on the line before a code block; `MARKS` lists the kinds, and
docs/contributing.md explains them.  Format: CommonMark, as far as the documents use it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.run import Run
from tasks.util.checkout import CHECKOUT

# Tasks with one sub-task an extension or an image -> what the sub-task does.
FAMILIES = {
    "fetch": "fetch the inputs of extension NAME",
    "image": "make the container image of the recipe images/NAME, an OCI archive",
    "lock": "pin the inputs of extension NAME in its lock.toml",
    "tcz": "build extension NAME and its dependencies",
}
DOIT_COMMANDS = ("clean", "forget", "help", "ignore", "info", "list", "reset-dep", "run")

MARKS = ("run", "not run", "file", "check", "output")
UNMARKED_LANGUAGES = ("mermaid", "text")  # languages of blocks that need no mark
MARK = re.compile(rf"<!-- ({'|'.join(MARKS)}): (.+) -->")
FENCE = re.compile(r"(`{3,})(\S*)\s*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"#{1,6} +(.*)")
SPAN = re.compile(r"`([^`\n]+)`")
DOIT = re.compile(r"(?:^|[\s(])\./doit((?: +[^\s;|&<>()]+)*)")
VARIABLE = re.compile(r"([a-z_]+)=\S*")
# A path of the checkout; `PLACEHOLDER` finds words like NAME in it.
PATH = re.compile(r"(?:LICENSES|docs|extensions|kconfig|patches|profiles|rootfs|tasks|tests)/[^\s*]*")
PLACEHOLDER = re.compile(r"[A-Z]{4,}")


def pages() -> list[Path]:
    """Return all documents: the Markdown files at the top of the checkout and in docs/."""
    return [*sorted(CHECKOUT.root.glob("*.md")), *sorted((CHECKOUT.root / "docs").rglob("*.md"))]


def options(task: Any) -> dict[str, str]:
    """Return the long options of a doit task, each with its help text."""
    return {option["long"]: option["help"] for option in task.params if option.get("long")}


def _run_options(task: Any) -> list[str]:
    """Return the long options that every run takes; a command, which has no actions, is no run."""
    return [str(option["long"]) for option in Run.cmd_options if task.actions]


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    line: the number of its first line; mark and about: kind and text of the HTML comment
    before it, "" if there is none.
    """

    line: int
    language: str
    mark: str
    about: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page in order."""
    return [block for block, _ in _parts(text) if block]


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of each line outside code blocks."""
    yield from (line for _, line in _parts(text) if line)


def _parts(text: str) -> Iterator[tuple[Block | None, tuple[int, str] | None]]:
    """Yield each code block, or else each line with its number, in the order of the page."""
    lines = list(enumerate(text.splitlines(), 1))
    while lines:
        number, line = lines.pop(0)
        fence = FENCE.fullmatch(line)
        if not fence:
            yield None, (number, line)
            continue
        content = []
        while lines and lines[0][1] != fence[1]:
            content.append(lines.pop(0)[1])
        if lines:
            lines.pop(0)
        mark = MARK.fullmatch(text.splitlines()[number - 2]) if number > 1 else None
        kind, about = (mark[1], mark[2]) if mark else ("", "")
        yield Block(number, fence[2], kind, about, "".join(f"{row}\n" for row in content)), None


def anchors(text: str) -> set[str]:
    """Return the anchors of the page's headings, in GitHub's form.

    GitHub and Python-Markdown differ only for headings with other characters than words and spaces.
    """
    headings = (HEADING.fullmatch(line) for _, line in prose(text))
    titles = (heading[1].strip().lower() for heading in headings if heading)
    return {re.sub(r"[^\w\s-]", "", title).replace(" ", "-") for title in titles}


def mistakes(texts: dict[Path, str], tasks: list[Any], variables: Collection[str]) -> list[str]:
    """Return a line for each mistake in the documents `texts` (path -> content), in page order."""
    there = {path for path, text in texts.items() for path in map(Path, _shown_files(text))}
    known = KnownNames(tasks, variables, there)
    found = []
    for path, text in texts.items():
        wrong = [*_link_mistakes(path, text, texts), *_mark_mistakes(text), *_name_mistakes(text, known)]
        found += [f"  {path.relative_to(CHECKOUT.root)}:{line}: {what}" for line, what in sorted(wrong)]
    return found


def _shown_files(text: str) -> list[str]:
    """Return the paths of the files that a page's own code blocks show."""
    return [block.about for block in blocks(text) if block.mark == "file"]


def _link_mistakes(page: Path, text: str, texts: dict[Path, str]) -> Iterator[tuple[int, str]]:
    for number, line in prose(text):
        for target in LINK.findall(SPAN.sub("``", line)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            other = (page.parent / file).resolve() if file else page
            if other not in texts and not other.exists():
                yield number, f"the link {target} names a file that does not exist"
            elif anchor and anchor not in anchors(texts.get(other) or other.read_text()):
                yield number, f"the link {target} names a heading that does not exist"


def _mark_mistakes(text: str) -> Iterator[tuple[int, str]]:
    for block in blocks(text):
        if not block.mark and block.language not in UNMARKED_LANGUAGES:
            yield block.line, f"a code block has no mark: add {', '.join(MARKS)}, or the language text"


class KnownNames:
    """The names that the documents may use: tasks, options, variables, paths of the checkout.

    files: paths of files that code blocks of the documents show.
    """

    def __init__(self, tasks: list[Any], variables: Collection[str], files: set[Path]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.variables = variables
        # A page that shows a profile also shows the command that makes its lock.
        locks = {file.with_suffix(".lock.toml") for file in files if file.match("profiles/*.toml")}
        self.paths = {str(path) for file in files | locks for path in (file, *file.parents)}
        recipes = [file.parent.name for file in files if file.match("*/recipe.toml")]
        self.names = {f"{stage}:{name}" for stage in FAMILIES for name in ["NAME", *recipes]}

    def command_mistake(self, words: Sequence[str]) -> str:
        """Return the mistake in the words after `./doit`, "" if there is none."""
        task: Any = None
        chosen = ""
        for word in itertools.takewhile(lambda word: word != "--", words):
            variable = VARIABLE.fullmatch(word)
            if variable:
                if variable[1] not in self.variables:
                    return f"there is no variable {variable[1]}="
            elif word.startswith("--"):
                if task is not None and word[2:].partition("=")[0] not in {
                    *options(task),
                    *_run_options(task),
                }:
                    return f"{task.name} has no option {word}"
            elif not chosen and re.match(r"[a-z]", word):
                chosen, task = word, self.tasks.get(word)
                if task is None and word not in self.names and word not in DOIT_COMMANDS:
                    return f"there is no task {word}"
        return ""

    def is_missing_path(self, path: str) -> bool:
        """Return whether a path of the checkout does not exist."""
        there = (CHECKOUT.root / path).exists() or path.rstrip("/") in self.paths
        return not there and not PLACEHOLDER.search(path)


def _name_mistakes(text: str, known: KnownNames) -> Iterator[tuple[int, str]]:
    """Yield (line number, mistake) for commands, variables and paths in code spans and shell blocks."""
    spans = [(number, span) for number, line in prose(text) for span in SPAN.findall(line)]
    for number, span in spans:
        variable = VARIABLE.fullmatch(span)
        if variable and variable[1] not in known.variables:
            yield number, f"there is no variable {variable[1]}="
        if PATH.fullmatch(span) and known.is_missing_path(span):
            yield number, f"there is no {span}"
    shell = [block for block in blocks(text) if block.language == "sh"]
    lines = [(block.line + n, line) for block in shell for n, line in enumerate(block.text.splitlines(), 1)]
    for number, line in [*spans, *lines]:
        for words in DOIT.findall(line.partition(" #")[0]):
            wrong = known.command_mistake(words.split())
            if wrong:
                yield number, wrong
