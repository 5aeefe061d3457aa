# SPDX-License-Identifier: MIT
"""The commands of tcbuild: they inspect, compare and explain, and make no part of the image.

A command that needs built files (`qemu`, `sbom`) is a task in dodo.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from doit.cmd_base import Command
from doit.task import Task

from tasks.cli import trees, variables
from tasks.config import inputs, release
from tasks.config.settings import Settings
from tasks.engine import command, standard_files
from tasks.engine.command import BaseCommand, TaskCommand
from tasks.engine.run import Run as EngineRun
from tasks.toolchain import prepare
from tasks.util.checkout import CHECKOUT, cache_folder, caller_folder
from tasks.util.errors import EXIT_FAILED, EXIT_INTERRUPTED, UserError, from_os_error
from tasks.util.process import CREDENTIALS, spawn

BUILDS_VARIABLE = "TCBUILD_BUILDS"
"""Environment variable that the wrapper sets for words that build something."""


class CheckoutCommand(BaseCommand, Command):  # type: ignore[misc]
    """A command that loads no tasks, so that it works while dodo.py or a recipe is broken."""

    builds = False
    """Whether it starts builds.  If so, `profile=auto` is decided first."""

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Pass the options and names to `do`."""
        self.do(pos_args, **{option["name"]: opt_values[option["name"]] for option in self.cmd_options})
        return 0

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Carry out the command.  Each command implements this.  options: as `cmd_options` declares them."""
        raise NotImplementedError

    def settings(self) -> Settings:
        """Return the settings that the variables of the command line ask for."""
        if self.builds:
            variables.decide_profile()
        return variables.settings()


class Run(EngineRun):
    """`./doit TASK`: the profile and its programs are settled before dodo.py declares the tasks."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Decide on the profile, load the tasks, run them."""
        variables.decide_profile()
        trees.warn()
        if os.environ.get(BUILDS_VARIABLE):
            prepare.install_host_toolchain(variables.settings())
        return super().execute(params, args)


class ReleaseTold(BaseCommand):
    """A command that first says on stderr which trees are used, and what the profile's release means."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Tell of trees and the release, and do the command's own work."""
        trees.tell()
        tell_release()
        return super().execute(params, args)


class List(ReleaseTold, command.List):
    """`./doit list`, with what the profile's release means."""


class Explain(ReleaseTold, command.Explain):
    """`./doit explain`, with what the profile's release means."""


def tell_release() -> None:
    """Print on stderr what the profile's release means, if it has one; stdout may be read by a program."""
    settings = variables.settings()
    profile = settings.profile
    if not profile.release:
        return
    one = release.load(profile.release)
    print(f"profile {settings.paths.name}: {one.description} for {profile.arch}", file=sys.stderr)
    print(f"  uname -r: {profile.kernel.release or 'not set'}", file=sys.stderr)
    mirrors = CREDENTIALS.sub("://***@", " ".join(profile.mirrors))
    print(f"  mirrors: {mirrors}; extensions: {profile.tcz}", file=sys.stderr)
    for line in inputs.told(profile, inputs.pinned_lock(settings.paths)):
        print(f"  {line}", file=sys.stderr)


class Releases(CheckoutCommand):
    """`./doit releases`."""

    doc_purpose = "list Tiny Core's releases (or NAME): their files, and who publishes a hash of each"
    doc_usage = "[NAME ...]"

    def do(self, names: Sequence[str], **options: Any) -> None:
        """List releases."""
        for name in names or release.names():
            for arch in release.load(name).files:
                print(*release.describe(name, arch), sep="\n")


class Help(command.Help):
    """`./doit help`, with the variables."""

    variables = variables.VARIABLES


class Check(CheckoutCommand):
    """`./doit check`."""

    doc_purpose = "say what FILE is, and whether it can be booted as a kernel"
    doc_usage = "FILE ..."
    takes_files = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Check files."""
        from tasks.cli import identify

        identify.check_files(caller_folder(), list(names))


class Doctor(CheckoutCommand):
    """`./doit doctor`."""

    doc_purpose = "check machine, tools, KVM, disk space, mirrors and cache, and say how to fix each fault"
    cmd_options = (variables.AS_JSON,)

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Check the machine."""
        from tasks.cli import doctor

        doctor.doctor(self.settings(), **options)


class CacheList(CheckoutCommand):
    """`./doit cache:list`."""

    name = "cache:list"
    doc_purpose = "list what the shared cache holds"

    def do(self, names: Sequence[str], **options: Any) -> None:
        """List the entries."""
        from tasks.cache import admin

        admin.print_list(self.settings())


class CachePrune(CheckoutCommand):
    """`./doit cache:prune`."""

    name = "cache:prune"
    doc_purpose = "remove the least recently used and the damaged entries from the shared cache"
    cmd_options = (variables.MAX_SIZE,)

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Remove entries."""
        from tasks.cache import admin

        admin.prune(self.settings().network, **options)


class ToolchainPrune(CheckoutCommand):
    """`./doit toolchain:prune`."""

    name = "toolchain:prune"
    doc_purpose = (
        "remove build roots that no toolchain of this checkout describes, and what their compilers kept"
    )

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Remove build roots."""
        from tasks.toolchain import build_root

        build_root.prune(cache_folder())


class Verify(CheckoutCommand):
    """`./doit verify`."""

    doc_purpose = "check an ISO and each of its parts against its manifest; offline, without root"
    doc_usage = "ISO ..."
    cmd_options = variables.VERIFY
    takes_files = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Check ISOs."""
        from tasks.provenance import verify

        verify.check(caller_folder(), list(names), **options)


class Rebuild(CheckoutCommand):
    """`./doit rebuild`."""

    doc_purpose = "build an image again from its manifest (--from), and compare"
    cmd_options = variables.REBUILD

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Build and compare."""
        from tasks.provenance import rebuild

        rebuild.rebuild(self.settings(), caller_folder(), **options)


class Reproduce(CheckoutCommand):
    """`./doit reproduce`."""

    doc_purpose = (
        "build twice under different conditions (user, clock, cores ...), and compare every artefact"
    )
    doc_usage = "[TASK ...]"
    cmd_options = variables.REPRODUCE
    builds = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Build twice and compare."""
        from tasks.provenance.reproduce import reproduce

        reproduce.reproduce(self.settings(), list(names), **options)


class Bench(CheckoutCommand):
    """`./doit bench`."""

    doc_purpose = (
        "compare with make, tuxmake, mkosi and the shell: all rows, or those with PART in their names"
    )
    doc_usage = "[PART ...]"
    cmd_options = variables.BENCH

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Measure."""
        from tasks.cli import testing

        testing.bench(caller_folder(), list(names), **options)


class QemuCommand(BaseCommand, Command):  # type: ignore[misc]
    """A command that builds the image, and then boots it."""

    def check(self, options: dict[str, Any]) -> None:
        """Raise `UserError` if no machine can be started with these options."""
        given = [(f"--{name}", str(options[name])) for name in ("firmware", "memory")]
        given += [("--dump-on-panic", options["dump"])] if options.get("dump") else []
        variables.check_qemu(given)

    def build(self, medium: str, firmware: str = "bios") -> bool:
        """Build the image for a medium.  Returns whether that failed; the reason is then on stderr.

        QEMU itself loads kernel and core for the firmware `direct`, from no medium.
        """
        builder = self.cmds.get_plugin("run")(**self.init_arguments)
        goal = "core" if firmware == "direct" else "disk" if medium == "disk" else "iso"
        try:
            return bool(builder.parse_execute(["--reporter", "quiet", goal]))
        except SystemExit as left:
            if left.code == EXIT_INTERRUPTED:
                raise
            return True


class QemuScreenshot(QemuCommand):
    """`./doit qemu:screenshot`."""

    name = "qemu:screenshot"
    doc_purpose = "boot the image in QEMU, and write what its screen shows as a PNG"
    doc_usage = "FILE.png"
    cmd_options = variables.QEMU_SCREENSHOT

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Build what is not up to date, and make the picture."""
        from tasks.vm import screenshot

        self.check(opt_values)
        file = screenshot.file_of(pos_args, caller_folder())
        moment = screenshot.Moment(opt_values["after"], opt_values["when"], opt_values["boot"])
        medium = opt_values["medium"]
        if self.build(medium):
            return EXIT_FAILED
        one = variables.settings()
        rest = (file, moment, opt_values["firmware"], medium, opt_values["memory"])
        screenshot.take(one.paths, one.profile, *rest)
        return 0


class QemuRun(QemuCommand):
    """`./doit qemu:run`.

    It is no task, because its standard output and its exit code are those of the guest's commands.
    """

    name = "qemu:run"
    doc_purpose = "boot the image in QEMU, run COMMAND there, and end with its exit status"
    doc_usage = "[-- COMMAND [ARGUMENT ...]]"
    cmd_options = variables.QEMU_RUN

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Build what is not up to date, and run the commands.  Returns their status, or a code of run.py."""
        from tasks.fetch import guest_root
        from tasks.vm import run

        with standard_files.stdout_apart() as stdout:
            sinks = [partial(standard_files.write_whole, number) for number in (stdout, 2)]
            try:
                self.check(opt_values)
                given = run.programs(pos_args, [caller_folder() / path for path in opt_values["scripts"]])
                wanted = run.Wanted.of(opt_values)
                if self.build(wanted.medium, wanted.firmware):
                    return run.EXIT_FAILED
                one = variables.settings()
                guest_root.fetch(one, ssh=wanted.ssh)
                return run.run(one.paths, one.profile, given, wanted, *sinks)
            except BrokenPipeError:
                raise  # the reader of stdout has closed it
            except (UserError, OSError) as error:
                told = from_os_error(error) if isinstance(error, OSError) else error
                print(f"error: {told}", file=sys.stderr)
                return run.exit_code(told)


class Bisect(CheckoutCommand):
    """`./doit bisect`."""

    doc_purpose = "find the commit of a kernel from git that brought a fault, by a check in the guest"
    doc_usage = "[-- COMMAND [ARGUMENT ...]]"
    cmd_options = variables.BISECT
    builds = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Build, boot and ask at each step, and print the report."""
        from tasks.vm import bisect_step

        given = variables.given()
        own = {"profile", "tree", "out"}
        words = tuple(f"{name}={value}" for name, value in given.items() if name not in own)
        files = [str(caller_folder().absolute() / path) for path in options.pop("scripts")]
        found = bisect_step.bisect(self.settings(), words, list(names), scripts=files, **options)
        print(found, end="")


def _build(given: Mapping[str, str], goals: Sequence[str]) -> None:
    """Build in a process of its own: a run loads the tasks of one profile.  given: variables.

    The trees of this run are used.  Raises `UserError` if it fails; the reason is then on stderr.
    """
    words = ["run", "--reporter", "quiet", *goals, *(f"tree={tree}" for tree in CHECKOUT.trees)]
    words += [f"{name}={value}" for name, value in given.items()]
    process = spawn([CHECKOUT.root / "doit", *words], pipes=False)
    try:
        status = process.wait()
    finally:
        process.terminate()  # if this process is to end before it
        process.wait()
    if status:
        raise UserError(f"profile {given['profile']} was not built, so nothing is booted")


class QemuMatrix(CheckoutCommand):
    """`./doit qemu:matrix`."""

    name = "qemu:matrix"
    doc_purpose = (
        "boot the cells of matrix.toml (or of matrix NAME) side by side, and make the checks in each"
    )
    doc_usage = "[NAME ...]"
    cmd_options = variables.REPORTS
    builds = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Build the image of each profile that has cells, and boot them."""
        from tasks.vm import boots, cells, matrix

        given = variables.given()
        given.pop("tree", None)  # of several, it is the last alone
        variables.check_reports([(f"--{name}", options[name]) for name in ("junit", "tap") if options[name]])
        only = given.get("profile", "auto") != "auto"
        found = matrix.cells(matrix.load(), self.settings().paths.name, only=only, wanted=names)
        profiles = list(dict.fromkeys(cell.profile for cell in found))
        if "out" in given and len(profiles) > 1:
            raise UserError("out= is the folder of one profile", "name the profile: profile=NAME")
        for name in profiles:
            media = {cell.media for cell in found if cell.profile == name}
            _build(given | {"profile": name}, ["iso", *(["disk"] if "disk" in media else [])])
        made = {name: variables.resolve(given | {"profile": name}, CHECKOUT.results) for name in profiles}
        cells.test(found, made, boots.Reports.of(**options))


class Docs(CheckoutCommand):
    """`./doit docs`."""

    doc_purpose = "write the generated parts of the documents and the JSON Schemas, and check the documents"

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Write what is generated, and check the documents."""
        from tasks.report import docs

        docs.write_docs(variables.VARIABLES, documented())


class Import(CheckoutCommand):
    """`./doit import`."""

    name = "import"
    doc_purpose = "make the profile NAME of an ISO, a disk, a stick or a folder with Tiny Core (or its tce)"
    doc_usage = "PATH [NAME]"
    cmd_options = variables.IMPORT
    takes_files = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Import a system."""
        from tasks.remaster import importer

        importer.import_system(cache_folder(), caller_folder(), list(names), **options)


class Init(CheckoutCommand):
    """`./doit init`."""

    name = "init"
    doc_purpose = "write a small tree of one's own to DIR: profile, recipe, fragment, check, CI, ./doit"
    doc_usage = "DIR"
    cmd_options = variables.INIT
    takes_files = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Write a tree."""
        from tasks.cli import init

        init.init(caller_folder(), list(names), **options)


class Sizes(CheckoutCommand):
    """`./doit size`."""

    name = "size"
    doc_purpose = "print the sizes of all parts (or FILE, modules, kernel), and how they changed"
    doc_usage = "[FILE|modules|extensions|kernel ...]"
    cmd_options = (variables.AS_JSON,)
    takes_files = True

    def do(self, names: Sequence[str], **options: Any) -> None:
        """Print sizes."""
        from tasks.report import sizes

        sizes.print_sizes(self.settings().paths, list(names), **options)


class Report(TaskCommand):
    """`./doit report`."""

    doc_purpose = "write report.html: times, reasons, sizes, configuration and tasks of what was built"

    def _execute(self) -> int:
        from tasks.report import report

        settings = variables.settings()
        report.build(settings.paths, settings.profile, list(self.tasks().values()))
        return 0


class Graph(TaskCommand):
    """`./doit graph`."""

    doc_purpose = "print the tasks that NAME (all) needs and their files as a graph"
    doc_usage = "[NAME ...]"
    cmd_options = (variables.GRAPH,)

    def _execute(self, pos_args: list[str], format: str) -> int:
        from tasks.report import graph

        graph.print_graph(self.tasks(), pos_args, format)
        return 0


class Completion(TaskCommand):
    """`./doit completion`."""

    doc_purpose = "print a completion script for SHELL, bash or zsh: source <(./doit completion bash)"
    doc_usage = "SHELL"

    def _execute(self, pos_args: list[str]) -> int:
        from tasks.cli import completion

        completion.print_for(pos_args, self.tasks(), self.cmds.to_dict())
        return 0


COMMANDS: tuple[type[BaseCommand], ...] = (
    *(
        Run,
        List,
        Explain,
        Help,
        Check,
        Doctor,
        Releases,
        CacheList,
        CachePrune,
        ToolchainPrune,
        Verify,
        Rebuild,
        Reproduce,
        Import,
        Init,
        Bench,
        QemuRun,
        QemuScreenshot,
        QemuMatrix,
        Bisect,
    ),
    *(Docs, Sizes, Report, Graph, Completion),
)


def documented() -> list[Task]:
    """Return the commands of tcbuild for the documents, as tasks without actions."""
    shown = [made for made in COMMANDS if made not in (Run, List, Help)]
    return [
        Task(made.get_name(), None, doc=made.doc_purpose, params=list(made.cmd_options)) for made in shown
    ]
