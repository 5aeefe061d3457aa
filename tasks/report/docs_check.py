"""Whether the documents are true: links, commands, options, variables, paths, code blocks.

The documents are README.md, the others at the top, and every page in docs/.  A mark is an
HTML comment on the line before a code block; `MARKS` lists the kinds, and
docs/contributing.md explains them.  Markdown: CommonMark, as far as the documents use it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.util.checkout import ROOT

# Tasks of which there is one for each extension, and what such a task does.
FAMILIES = {
    "fetch": "fetch what the recipe of extension NAME is made of",
    "lock": "pin what the recipe of extension NAME is made of, in its lock.toml",
    "tcz": "make extension NAME, and what it depends on",
}
DOIT_COMMANDS = ("clean", "forget", "help", "info", "list", "run")

MARKS = ("run", "not run", "file", "check", "output")
FREE = ("mermaid", "text")  # languages of blocks that need no mark
MARK = re.compile(rf"<!-- ({'|'.join(MARKS)}): (.+) -->")
FENCE = re.compile(r"(`{3,})(\S*)\s*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"#{1,6} +(.*)")
SPAN = re.compile(r"`([^`\n]+)`")
DOIT = re.compile(r"(?:^|[\s(])\./doit((?: +[^\s;|&<>()]+)*)")
VARIABLE = re.compile(r"([a-z_]+)=\S*")
# A path of the checkout, without words that stand for others (NAME).
PATH = re.compile(r"(?:LICENSES|docs|extensions|kconfig|patches|profiles|rootfs|tasks|tests)/[^\s*]*")
PLACEHOLDER = re.compile(r"[A-Z]{4,}")


def pages() -> list[Path]:
    """Return all documents: those at the top, and every page in docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def options(task: Any) -> dict[str, str]:
    """Return the long options of a doit task, and what each of them means."""
    return {option["long"]: option["help"] for option in task.params if option.get("long")}


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
    """Yield number and text of each line outside code blocks."""
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
    """Return what a link to a heading of the page may have behind its #.

    The renderers (GitHub's, Python-Markdown's) agree on headings of words alone; for others this is
    GitHub's form.
    """
    headings = (HEADING.fullmatch(line) for _, line in prose(text))
    titles = (heading[1].strip().lower() for heading in headings if heading)
    return {re.sub(r"[^\w\s-]", "", title).replace(" ", "-") for title in titles}


def mistakes(texts: dict[Path, str], tasks: list[Any], variables: Collection[str]) -> list[str]:
    """Return a line for each mistake in the documents `texts` (path -> content), in their order."""
    there = {path for path, text in texts.items() for path in map(Path, _files(text))}
    known = Known(tasks, variables, there)
    found = []
    for path, text in texts.items():
        wrong = [*_links(path, text, texts), *_marks(text), *_words(text, known)]
        found += [f"  {path.relative_to(ROOT)}:{line}: {what}" for line, what in sorted(wrong)]
    return found


def _files(text: str) -> list[str]:
    """Return the paths that a page's own code blocks make."""
    return [block.about for block in blocks(text) if block.mark == "file"]


def _links(page: Path, text: str, texts: dict[Path, str]) -> Iterator[tuple[int, str]]:
    for number, line in prose(text):
        for target in LINK.findall(SPAN.sub("``", line)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            other = (page.parent / file).resolve() if file else page
            if other not in texts and not other.exists():
                yield number, f"the link {target} leads nowhere"
            elif anchor and anchor not in anchors(texts.get(other) or other.read_text()):
                yield number, f"the link {target} leads to no heading"


def _marks(text: str) -> Iterator[tuple[int, str]]:
    for block in blocks(text):
        if not block.mark and block.language not in FREE:
            yield block.line, f"a code block without a mark: one of {', '.join(MARKS)}, or the language text"


class Known:
    """What the documents may name: tasks, their options, variables, paths of the checkout.

    files: paths that code blocks of the documents make.
    """

    def __init__(self, tasks: list[Any], variables: Collection[str], files: set[Path]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.variables = variables
        # A profile's lock is made by a command, which the page shows.
        locks = {file.with_suffix(".lock.toml") for file in files if file.match("profiles/*.toml")}
        self.paths = {str(path) for file in files | locks for path in (file, *file.parents)}
        recipes = [file.parent.name for file in files if file.match("extensions/*/recipe.toml")]
        self.names = {f"{stage}:{name}" for stage in FAMILIES for name in ["NAME", *recipes]}

    def wrong_command(self, words: Sequence[str]) -> str:
        """Return what is wrong with the words behind `./doit`, "" if nothing is."""
        task: Any = None
        chosen = ""
        for word in words:
            variable = VARIABLE.fullmatch(word)
            if variable:
                if variable[1] not in self.variables:
                    return f"there is no variable {variable[1]}="
            elif word.startswith("--"):
                if task is not None and word[2:].partition("=")[0] not in options(task):
                    return f"{task.name} has no option {word}"
            elif not chosen and re.match(r"[a-z]", word):
                chosen, task = word, self.tasks.get(word)
                if task is None and word not in self.names and word not in DOIT_COMMANDS:
                    return f"there is no task {word}"
        return ""

    def wrong_path(self, path: str) -> bool:
        """Tell whether a path of the checkout does not exist."""
        there = (ROOT / path).exists() or path.rstrip("/") in self.paths
        return not there and not PLACEHOLDER.search(path)


def _words(text: str, known: Known) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with commands, variables and paths in code spans and blocks of shell."""
    spans = [(number, span) for number, line in prose(text) for span in SPAN.findall(line)]
    for number, span in spans:
        variable = VARIABLE.fullmatch(span)
        if variable and variable[1] not in known.variables:
            yield number, f"there is no variable {variable[1]}="
        if PATH.fullmatch(span) and known.wrong_path(span):
            yield number, f"there is no {span}"
    shell = [block for block in blocks(text) if block.language == "sh"]
    lines = [(block.line + n, line) for block in shell for n, line in enumerate(block.text.splitlines(), 1)]
    for number, line in [*spans, *lines]:
        for words in DOIT.findall(line.partition(" #")[0]):
            wrong = known.wrong_command(words.split())
            if wrong:
                yield number, wrong
