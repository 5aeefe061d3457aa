"""Commands that make nothing of the image: they look, compare and explain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from doit import get_initial_workdir

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.engine.task import QUIET, Task, command, do, files


def declared(settings: Settings, default: Sequence[str]) -> Iterator[Task]:
    """Yield the commands that look at what there is; `default`: the tasks of a plain `./doit`."""
    from tasks.engine.explain import AllTasks

    folder = Path(os.environ.get("TCBUILD_CWD") or get_initial_workdir() or ".")
    doc = "say what a kernel image (or any other FILE) is, and whether it can be booted"
    yield command("check", doc, do("cli.identify", "check_files", folder), pos_arg="paths")
    known = AllTasks()
    doc = "say for each task that NAME (iso) needs whether it would run, and why"
    explain = do("engine.explain", "explain", known, default)
    yield command("explain", doc, explain, pos_arg="names", uptodate=[known])
    doc = "build twice, with all varied that may vary (user, clock, cores ...), and compare every artefact"
    twice = do("provenance.reproduce.reproduce", "reproduce", settings)
    yield command("reproduce", doc, twice, params=variables.REPRODUCE, pos_arg="goals")
    doc = "check machine, tools, KVM, disk space, mirrors and cache, and say how to mend each"
    look = do("cli.doctor", "doctor", settings)
    yield command("doctor", doc, look, params=[variables.AS_JSON], meta=QUIET)
    yield command("cache:list", "list what the shared cache holds", do("cache.admin", "print_list", settings))
    doc = "remove what was used least recently from the shared cache, and what is damaged"
    yield command("cache:prune", doc, do("cache.admin", "prune", settings), params=[variables.MAX_SIZE])
    doc = "check an ISO against its manifest from its parts up; offline, without root"
    yield command("verify", doc, do("provenance.verify", "check", folder), **variables.VERIFY)
    doc = "build an image again from its manifest (--from), and compare"
    yield command("rebuild", doc, do("provenance.rebuild", "rebuild", settings, folder), **variables.REBUILD)
    made = files(settings.iso, settings.iso.with_name(f"{settings.iso.name}.manifest.json"))
    doc = "list all the image is made of, as CycloneDX and as SPDX"
    bring = do("fetch.bring", "packages", settings)  # their licences are read
    yield command("sbom", doc, bring, do("provenance.sbom.cyclonedx", "build", settings), reads=made)
    doc = "say what made the ISO out of what (SLSA provenance); sign it and the manifest with sign=KEYFILE"
    yield command(
        "provenance", doc, do("provenance.slsa", "build", settings, variables.sign_key()), reads=made
    )
    doc = "measure against make, tuxmake, mkosi and the shell: all rows, or those with PART in their names"
    bench = do("cli.testing", "bench", folder)
    yield command("bench", doc, bench, pos_arg="rows", params=variables.BENCH, io={"capture": False})
    doc = "write the generated parts of the documents and the JSON Schemas, and check the documents"
    yield command("docs", doc, do("report.docs", "write_docs", variables.VARIABLES))
    doc = "write report.html: times, reasons, sizes, configuration and tasks of what was built"
    yield command("report", doc, do("report.report", "build", settings, known), uptodate=[known])
    doc = "print how large all parts are (or FILE, modules, kernel), and how that changed"
    sizes = do("report.sizes", "print_sizes", settings)
    yield command("size", doc, sizes, pos_arg="names", params=[variables.AS_JSON], meta=QUIET)
    doc = "print the tasks that NAME (all) needs and their files as a graph"
    graph = do("report.graph", "print_graph", known)
    yield command(
        "graph", doc, graph, pos_arg="names", params=[variables.GRAPH], uptodate=[known], meta=QUIET
    )
    doc = "print a completion script for SHELL, bash or zsh: source <(./doit completion bash)"
    yield command(
        "completion",
        doc,
        do("cli.completion", "print_for", known),
        pos_arg="words",
        uptodate=[known],
        meta=QUIET,
    )
