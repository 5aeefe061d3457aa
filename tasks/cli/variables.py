# SPDX-License-Identifier: MIT
"""The variables of the command line, the options of tasks and commands, and the settings made of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from doit import get_var

from tasks.config import compiler as config_compiler
from tasks.config import profile
from tasks.config.profile import FALLBACK, load, names
from tasks.config.settings import NO_CACHE, OWN_CACHE, SHARED_VARIABLE, Network, Paths, Settings
from tasks.engine.words import UsageError, own
from tasks.util import jobserver
from tasks.util.checkout import CHECKOUT, cache_folder, caller_folder
from tasks.util.errors import UserError
from tasks.util.files import write_if_changed
from tasks.util.text import did_you_mean

# The variables (`NAME=VALUE` on the command line), with their help texts.
VARIABLES = {
    "profile": "the profile to build",
    "toolchain": "the programs that write the results: host for this machine's, or a pinned toolchain",
    "fragments": "use these fragments instead of the profile's",
    "tree": "a folder with profiles/, extensions/ ... of your own; may be repeated, later ones win",
    "out": "the folder for results, instead of artifacts/PROFILE",
    "frozen": "1: fail if an input is not the locked one",
    "offline": "1: open no connection",
    "newest": "1: take the newest of packages whose locked version has left the mirrors",
    "relock": "1: with lock: take what the mirrors serve now",
    "jobs": "how many jobs may run at once in all",
    "cache": "a shared cache: own (in the cache folder, the default), another folder, an address, or none",
    "sign": "the key file that provenance signs with",
    "launcher": "the program that starts the compiler: ccache, sccache, distcc, icecc or none",
    "hosts": "the hosts of a compile farm: HOST/SLOTS, separated by commas",
    "scheduler": "the scheduler of an icecc farm",
    "remote_storage": "where ccache shares its entries: http://… or redis://…",
}
FLAGS = ("frozen", "offline", "newest", "relock")
MAX_JOBS = 1024
RESULTS = "results"  # in the cache folder: the shared cache of this user, if no other is named
PROFILE_RECORD = "profile.json"  # in artifacts/: the profile that profile=auto chose
# Options of tasks and commands, in the form that doit reads.
FIRMWARE = {
    "name": "firmware",
    "long": "firmware",
    "default": "bios",
    "choices": [("bios", ""), ("uefi", ""), ("direct", "")],
    "help": "the firmware that boots the ISO; direct: QEMU loads kernel and core.gz itself",
}
MEDIA = {
    "name": "media",
    "long": "media",
    "type": list,
    "default": [],
    "help": "what to boot from: cd, stick, fat, disk or direct; may be given several times (all but disk)",
}
REPORT_FILES = (
    {"name": "junit", "long": "junit", "default": "", "help": "the file for the results as JUnit's XML"},
    {"name": "tap", "long": "tap", "default": "", "help": "the file for the results as TAP"},
)
# Options of `./doit qemu:test`, `./doit qemu:matrix` and `./doit kselftest`.
REPORTS = (
    *REPORT_FILES,
    {
        "name": "allow_warnings",
        "long": "allow-warnings",
        "type": bool,
        "default": False,
        "help": "warnings and oopses in the kernel's log are no failures",
    },
)
QEMU_TEST = [MEDIA, *REPORTS]
MEMORY = {
    "name": "memory",
    "long": "memory",
    "type": int,
    "default": 1024,
    "help": "memory of the guest in MiB",
}
FORWARD = {
    "name": "forward",
    "long": "forward",
    "type": list,
    "default": [],
    "help": "a port HOSTPORT:GUESTPORT, as 5000:5000; may be given several times",
}
SHARE = {
    "name": "share",
    "long": "share",
    "type": list,
    "default": [],
    "help": "a folder DIR[:PATH][:ro] that the guest gets, at /mnt/NAME or PATH; may be given several times",
}
SSH = {
    "name": "ssh",
    "long": "ssh",
    "type": bool,
    "default": False,
    "help": "the guest can be reached by ssh, scp, sftp and rsync; a line says how",
}
DUMP = {
    "name": "dump",
    "long": "dump-on-panic",
    "default": "",
    "help": "if the kernel panics, write the guest's memory to this file, for gdb",
}
# Options of `./doit qemu`.
QEMU = [
    FIRMWARE,
    MEMORY,
    FORWARD,
    SHARE,
    SSH,
    {
        "name": "disk",
        "long": "disk",
        "type": list,
        "default": [],
        "help": "a disk FILE[:SIZE], made if absent, and qcow2 if its name says so; may be repeated",
    },
    {
        "name": "snapshot",
        "long": "snapshot",
        "type": bool,
        "default": False,
        "help": "what the guest writes to its disks is lost",
    },
    {
        "name": "screen",
        "long": "display",
        "default": "none",
        "choices": [("none", ""), ("gtk", ""), ("spice", ""), ("vnc", "")],
        "help": "where the guest's screen is: in a window, or at a port of this machine",
    },
    {
        "name": "gdb",
        "long": "gdb",
        "type": bool,
        "default": False,
        "help": "gdb can debug the guest's kernel; a line says how",
    },
    {
        "name": "halted",
        "long": "halted",
        "type": bool,
        "default": False,
        "help": "with --gdb: the guest starts when gdb has connected, and stops in start_kernel",
    },
    DUMP,
]
# Options of `./doit kselftest`.
KSELFTEST = [
    *REPORTS,
    MEMORY,
    {
        "name": "timeout",
        "long": "timeout",
        "type": int,
        "default": 0,
        "help": "seconds for each test (default: the kernel's own limit)",
    },
]
# Options of `./doit kunit`.
KUNIT = [
    *REPORT_FILES,
    MEMORY,
    {"name": "timeout", "long": "timeout", "type": int, "default": 600, "help": "seconds for the boot"},
]
MEDIUM = {
    "name": "medium",
    "long": "media",
    "default": "cd",
    "choices": [("cd", ""), ("stick", ""), ("fat", ""), ("disk", "")],
    "help": "what bios and uefi boot from",
}
BOOT = {"name": "boot", "long": "boot-timeout", "type": int, "default": 240, "help": "seconds for the boot"}
# Options of `./doit qemu:run`.
GUEST_COMMANDS = (
    {
        "name": "scripts",
        "long": "script",
        "type": list,
        "default": [],
        "help": "a file to run, by the program that its #! line names; may be given several times",
    },
    {"name": "root", "long": "root", "type": bool, "default": False, "help": "as root, instead of tc"},
    {
        "name": "timeout",
        "long": "timeout",
        "type": int,
        "default": 300,
        "help": "seconds for each command",
    },
    BOOT,
)
QEMU_RUN = (FIRMWARE, MEDIUM, MEMORY, SHARE, SSH, *GUEST_COMMANDS, DUMP)
# Options of `./doit bisect`.
BISECT = (
    {"name": "good", "long": "good", "default": "", "help": "a commit, tag or branch without the fault"},
    {"name": "bad", "long": "bad", "default": "", "help": "a later one with it"},
    # The kernel is asked, and no boot loader.
    {**FIRMWARE, "default": "direct"},
    MEDIUM,
    MEMORY,
    *GUEST_COMMANDS,
)
# Options of `./doit qemu:screenshot`.
QEMU_SCREENSHOT = (
    FIRMWARE,
    MEDIUM,
    MEMORY,
    {
        "name": "after",
        "long": "after",
        "type": int,
        "default": 0,
        "help": "seconds from the start of QEMU to the picture",
    },
    {
        "name": "when",
        "long": "when",
        "default": "",
        "help": "the text on the serial console that the picture waits for (default: a prompt)",
    },
    BOOT,
)
ALL = {
    "name": "all",
    "long": "all",
    "type": bool,
    "default": False,
    "help": "all recipes, also those that the profile does not use",
}
INPUTS = {"name": "inputs", "long": "inputs", "type": int, "default": 100_000, "help": "number of inputs"}
FAULTS = [
    {"name": "count", "long": "count", "type": int, "default": 200, "help": "number of faults"},
    {
        "name": "seed",
        "long": "seed",
        "default": "",
        "help": "repeat the faults of the run that printed this seed",
    },
    {"name": "kind", "long": "kind", "default": "", "help": "cause only this kind of fault, as edit or code"},
]
HOSTS = [
    {
        "name": "names",
        "long": "hosts",
        "default": "",
        "help": "systems of tests/support/hosts.toml, separated by commas (default: all)",
    },
    {
        "name": "visitors",
        "long": "visitors",
        "default": "",
        "help": "who builds there: root, user, namespaces (default: all)",
    },
]
AS_JSON = {
    "name": "as_json",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON, for programs",
}
GRAPH = {
    "name": "format",
    "long": "format",
    "default": "dot",
    "choices": [("dot", ""), ("mermaid", ""), ("svg", "")],
    "help": "format of the graph; Graphviz draws svg",
}
# Options of `./doit reproduce`.
REPRODUCE = (
    {
        "name": "only",
        "long": "only",
        "default": "",
        "help": "variations to make, separated by commas (default: all)",
    },
    {
        "name": "leave_out",
        "long": "leave-out",
        "default": "",
        "help": "variations to skip, separated by commas",
    },
    {
        "name": "ccache",
        "long": "ccache",
        "type": bool,
        "default": False,
        "help": "share one ccache, which is quick",
    },
    {"name": "keep", "long": "keep", "type": bool, "default": False, "help": "keep both trees"},
)

MAX_SIZE = {
    "name": "max_size",
    "long": "max-size",
    "default": "10GiB",
    "help": "the size to keep: 500MB, 10GiB, ... (1 kB is 1000 bytes, 1 KiB 1024)",
}
# Options of `./doit bench`.
BENCH = (
    {"name": "runs", "long": "runs", "type": int, "default": 3, "help": "how often each command is measured"},
    {"name": "config", "long": "config", "default": "small", "help": "kernel: small, or profile (apt's)"},
    {
        "name": "counts",
        "long": "counts",
        "default": "10,100,1000",
        "help": "numbers of extensions, separated by commas",
    },
    {"name": "json", "long": "json", "default": "", "help": "the file for all samples"},
    {
        "name": "folder",
        "long": "folder",
        "default": "",
        "help": "the folder to measure in; what is built there is kept",
    },
)

# Options of `./doit import`.
IMPORT = (
    {
        "name": "base",
        "long": "base",
        "default": "",
        "help": "the release's own core, to show what the imported one has apart from it",
    },
    {
        "name": "inherit",
        "long": "inherit",
        "default": "tc11",
        "help": "the profile with kernel and core for a medium that has none",
    },
    {
        "name": "force",
        "long": "force",
        "type": bool,
        "default": False,
        "help": "replace a profile that has the name, or was edited",
    },
)

# Options of `./doit init`.
INIT = (
    {
        "name": "name",
        "long": "name",
        "default": "",
        "help": "the name of the profile (default: of the folder)",
    },
    {"name": "base", "long": "base", "default": "", "help": "the profile to inherit (default: quick)"},
    {"name": "ci", "long": "ci", "default": "", "help": "github, gitlab or none (default: github)"},
    {
        "name": "url",
        "long": "url",
        "default": "",
        "help": "the address of tcbuild's repository (default: where this one came from)",
    },
)

# Options of `./doit verify` and `./doit rebuild`.
VERIFY = (
    {
        "name": "manifest",
        "long": "manifest",
        "default": "",
        "help": "the manifest, if it is not ISO.manifest.json",
    },
    {
        "name": "key",
        "long": "key",
        "default": "",
        "help": "the file with the public key, or an allowed_signers file",
    },
)
REBUILD = (
    {"name": "source", "long": "from", "default": "", "help": "the manifest to build from"},
    {"name": "out", "long": "out", "default": "", "help": "an empty folder to build in and to keep"},
    {
        "name": "anyway",
        "long": "anyway",
        "type": bool,
        "default": False,
        "help": "build also if tcbuild or tools differ from the manifest's",
    },
)


def check(names: Iterable[str]) -> None:
    """Raise `UsageError` for a name that is no variable.

    If it were ignored, something else than asked for would be built.
    """
    for name in names:
        if name not in VARIABLES:
            hint = did_you_mean(name, VARIABLES, "{}=".format) or f"known: {', '.join(VARIABLES)}"
            raise UsageError(f"unknown variable {name}=", hint)


def check_qemu(options: Sequence[tuple[str, str]]) -> None:
    """Raise `UserError` if no machine can be started with these (option, value) pairs of `./doit qemu`."""
    from tasks.vm import data_disk, display, machine, share

    machine.parse_forwards([value for name, value in options if name == "--forward"])
    share.parse([value for name, value in options if name == "--share"], caller_folder())
    disks = data_disk.parse([value for name, value in options if name == "--disk"], caller_folder())
    _check_files(options, "--dump-on-panic")
    if "--halted" in dict(options) and "--gdb" not in dict(options):
        raise UserError("--halted: nothing would start the guest", "add --gdb")
    if "--snapshot" in dict(options) and not disks:
        raise UserError("--snapshot is about disks", "name one: --disk FILE")
    if "--display" in dict(options):
        display.check(dict(options)["--display"], settings().profile.architecture.emulator.program)
    if dict(options).get("--firmware") == "uefi":
        machine.require_uefi(settings().profile.architecture.emulator)
    memory = dict(options).get("--memory", str(MEMORY["default"]))
    if int(memory) < machine.LEAST_MEMORY:
        raise UserError(f"--memory {memory}: expected at least {machine.LEAST_MEMORY} (MiB)")


def check_reports(options: Sequence[tuple[str, str]], _names: Sequence[str] = ()) -> None:
    """Raise `UserError` if no file can be written where these options of a task that tests say.

    options: pairs of an option and its value; no name that such a task takes is looked at.
    """
    _check_files(options, "--junit", "--tap")


def _check_files(options: Sequence[tuple[str, str]], *names: str) -> None:
    """Raise `UserError` if no file can be written where the options `names` say."""
    for option in names:
        value = dict(options).get(option)
        file = caller_folder() / (value or "")
        if value is not None and file.is_dir():
            raise UserError(f"{option} {value!r}: expected the name of a file, and there is a folder")
        if value is not None and not file.parent.is_dir():
            raise UserError(f"{option} {value!r}: there is no folder {file.parent}")


def given() -> dict[str, str]:
    """Return the variables of the command line."""
    values = {name: get_var(name) for name in VARIABLES}
    return {name: str(value) for name, value in values.items() if value is not None}


def asks_for(task: str) -> bool:
    """Tell whether the command line names `task`."""
    return task in own(sys.argv[1:])


def sign_key() -> str:
    """Return the file of the secret key to sign with: `sign=` or $TCBUILD_SIGN; "" for none."""
    return given().get("sign") or os.environ.get("TCBUILD_SIGN", "")


def settings(artifacts: Path | None = None) -> Settings:
    """Return the settings that the variables of the command line ask for.

    artifacts: the folder for the results of profiles (default: that of the checkout or the last tree).

    It makes no file and opens no connection.  Until `decide_profile` has decided `profile=auto`,
    `fallback_profile` is used.
    Raises `UserError` for an unknown value or profile.
    """
    artifacts = artifacts or CHECKOUT.results
    variables = given()
    jobs = variables.pop("jobs", None)
    if jobs is not None:
        if not (jobs.isdecimal() and 0 < int(jobs) <= MAX_JOBS):
            raise UserError(f"jobs={jobs}: expected a number from 1 to {MAX_JOBS}")
        jobserver.set_slots(int(jobs))
    name = variables.get("profile", "auto")
    if name == "auto":
        variables["profile"] = recorded_profile(artifacts) or fallback_profile()
    return resolve(variables, artifacts)


def decide_profile() -> None:
    """If the command line asks for `profile=auto`, choose a profile and record the choice."""
    variables = given()
    resolve_name(variables.get("profile", "auto"), CHECKOUT.results, _flag(variables, "offline"))


def fallback_profile() -> str:
    """Return the profile that commands which build nothing use until `profile=auto` is decided.

    Every machine can build it.  To decide, mirrors must be asked.
    """
    known = names()
    return FALLBACK if FALLBACK in known else known[0]


def fetch_keys(whole: profile.Profile) -> dict[str, object]:
    """Return the keys of a profile that decide what is fetched, with their values."""
    kernel = ("source", "base", "modules", "release")
    others = ("arch", "suite", "core", "mirrors", "tcz", "extensions", "images")
    return {
        **{f"kernel.{name}": getattr(whole.kernel, name) for name in kernel},
        **{name: getattr(whole, name) for name in others},
    }


def published_keys(whole: profile.Profile) -> dict[str, object]:
    """Return the keys of a profile that a manifest holds: all but those that change no result."""
    keys = (field.name for field in fields(whole) if field.name not in profile.NO_RESULT)
    return {name: getattr(whole, name) for name in keys}


def tree(folder: Path) -> list[Path]:
    """Return every file below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def resolve(variables: dict[str, str], artifacts: Path) -> Settings:
    """Resolve the command line's variables (profile=, fragments=, out=, frozen= ...).

    Raises `UserError` for an unknown variable value or profile.
    """
    network = Network(
        offline=_flag(variables, "offline"),
        frozen=_flag(variables, "frozen"),
        newest=_flag(variables, "newest"),
        relock=_flag(variables, "relock"),
    )
    name = resolve_name(variables.get("profile", "auto"), artifacts, network.offline)
    output = Path(variables["out"]).absolute() if variables.get("out") else artifacts / name
    profile = load(name)
    paths = Paths(name, output, cache_folder(), profile.arch)
    compiler = config_compiler.with_overrides(profile.compiler, variables, paths.profile_file)
    kernel = profile.kernel
    if "fragments" in variables:
        kernel = replace(kernel, fragments=tuple(filter(None, variables["fragments"].split(","))))
    toolchain = variables.get("toolchain", profile.toolchain)
    if "toolchain" in variables:
        kernel = replace(kernel, toolchain="")
    profile = replace(profile, compiler=compiler, kernel=kernel, toolchain=toolchain)
    return Settings(paths, profile, _with_cache(network, variables, profile))


def _with_cache(network: Network, variables: dict[str, str], chosen: profile.Profile) -> Network:
    """Return `network` with the shared cache that the caller names, or with that of this user."""
    # What was made of a kernel tree between two edits is hardly ever made again.
    usual = NO_CACHE if chosen.kernel.tree else OWN_CACHE
    address = variables.get("cache") or os.environ.get(SHARED_VARIABLE) or usual
    if address == NO_CACHE:
        return network
    if address == OWN_CACHE:
        return replace(network, shared_cache=str(cache_folder() / RESULTS), own_cache=True)
    return replace(network, shared_cache=address)


def _flag(variables: dict[str, str], name: str) -> bool:
    value = variables.get(name, "0")
    if value not in ("0", "1"):
        raise UserError(f"{name}={value}: expected 0 or 1")
    return value == "1"


def resolve_name(asked: str, artifacts: Path, offline: bool) -> str:
    """Return the profile to use; `auto` is decided once and recorded in artifacts/profile.json.

    A recorded choice is used again until `profile=NAME` says otherwise or
    `artifacts/` is removed, so that a mirror's outage never changes what is built.
    """
    if asked != "auto":
        return asked
    if chosen := recorded_profile(artifacts):
        return chosen
    from tasks.fetch import mirror_probe  # imports requests: only when a choice must be made

    name, reason = mirror_probe.choose({name: load(name) for name in names()}, offline)
    record = artifacts / PROFILE_RECORD
    artifacts.mkdir(exist_ok=True)
    write_if_changed(record, json.dumps({"profile": name, "reason": reason}, indent=2) + "\n")
    # On stderr: stdout may be read by a program.
    print(f"profile=auto chose {name}: {reason} (recorded in {record.name})", file=sys.stderr)
    return name


def recorded_profile(artifacts: Path) -> str:
    """Return the profile that `profile=auto` chose, "" before that.  Raises `UserError` for a bad record."""
    record = artifacts / PROFILE_RECORD
    if not record.is_file():
        return ""
    try:
        return str(json.loads(record.read_text())["profile"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{record} is damaged", "remove it, or name a profile: profile=NAME") from None
