"""What the command line and the checkout say, as `dodo.py` needs it to declare tasks."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from doit import doit_cmd

from tasks import compilers, jobserver, patches, profile, tce
from tasks.errors import UserError
from tasks.profile import Settings
from tasks.run import ROOT, require_tool
from tasks.tce import Plan

# An extension and what lies beside it; all of it goes onto the image.
TCZ_ENDINGS = (".tcz", ".tcz.dep", ".tcz.info", ".tcz.list", ".tcz.md5.txt")
VARIABLES = (
    *("profile", "fragments", "out", "frozen", "offline", "relock", "jobs", "cache", "sign"),
    *compilers.VARIABLES,
)
MOST_JOBS = 1024
# Options of commands, as doit declares them.
FIRMWARE = {
    "name": "firmware",
    "long": "firmware",
    "default": "bios",
    "help": "bios, uefi, or direct (QEMU loads kernel and core.gz itself)",
}
MEMORY = {"name": "memory", "long": "memory", "type": int, "default": 1024, "help": "MiB of the guest"}
FORWARD = {
    "name": "forward",
    "long": "forward",
    "type": list,
    "default": [],
    "help": "HOSTPORT:GUESTPORT, as 5000:5000; may be given several times",
}
INPUTS = {"name": "inputs", "long": "inputs", "type": int, "default": 100_000, "help": "how many"}
FAULTS = [
    {"name": "count", "long": "count", "type": int, "default": 200, "help": "how many"},
    {"name": "seed", "long": "seed", "default": "", "help": "which ones, as an earlier run said"},
]
AS_JSON = {"name": "as_json", "long": "json", "type": bool, "default": False, "help": "as JSON, for programs"}
GRAPH = {"name": "format", "long": "format", "default": "dot", "help": "dot, mermaid or svg (by Graphviz)"}
# Options of `./doit reproduce`.
REPRODUCE = [
    {"name": "only", "long": "only", "default": "", "help": "variations to make, commas between (all)"},
    {"name": "leave_out", "long": "leave-out", "default": "", "help": "variations not to make"},
    {"name": "ccache", "long": "ccache", "type": bool, "default": False, "help": "share one ccache: quick"},
    {"name": "keep", "long": "keep", "type": bool, "default": False, "help": "leave both trees there"},
]

MAX_SIZE = {
    "name": "max_size",
    "long": "max-size",
    "default": "10GiB",
    "help": "bytes to keep: 500MB, 10GiB, ... (1 kB is 1000 bytes, 1 KiB 1024)",
}
# Options of `./doit bench`.
BENCH = [
    {"name": "runs", "long": "runs", "type": int, "default": 3, "help": "how often each command is measured"},
    {"name": "config", "long": "config", "default": "small", "help": "kernel: small, or profile (apt's)"},
    {"name": "counts", "long": "counts", "default": "10,100,1000", "help": "numbers of extensions"},
    {"name": "json", "long": "json", "default": "", "help": "file for all samples"},
    {"name": "folder", "long": "folder", "default": "", "help": "measure there, and keep what is built"},
]

# Of `./doit verify` and `./doit rebuild`.
VERIFY: dict[str, Any] = {
    "pos_arg": "paths",
    "params": [
        {"name": "manifest", "long": "manifest", "default": "", "help": "FILE instead of ISO.manifest.json"},
        {"name": "key", "long": "key", "default": "", "help": "a public key, or allowed_signers"},
    ],
}
REBUILD: dict[str, Any] = {
    "params": [
        {"name": "source", "long": "from", "default": "", "help": "the manifest to build from"},
        {"name": "out", "long": "out", "default": "", "help": "an empty folder to build in and to keep"},
        {
            "name": "anyway",
            "long": "anyway",
            "type": bool,
            "default": False,
            "help": "go on with another tcbuild, other tools",
        },
    ]
}


def sign_key() -> str:
    """Return the file of the secret key to sign with: `sign=` or $TCBUILD_SIGN; "" for none."""
    return str((doit_cmd._CMDLINE_VARS or {}).get("sign") or os.environ.get("TCBUILD_SIGN", ""))


def settings(artifacts: Path) -> Settings:
    """Return the settings that `name=value` words of the command line ask for.

    Raises `UserError` for an unknown variable: one that is silently ignored
    builds something else than was asked for.
    """
    given: dict[str, str] = dict(doit_cmd._CMDLINE_VARS or {})
    for name in given:
        if name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            raise UserError(
                f"unknown variable {name}=",
                f"did you mean {near[0]}=?" if near else f"known: {', '.join(VARIABLES)}",
            )
    jobs = given.pop("jobs", None)
    if jobs is not None:
        if not (jobs.isdecimal() and 0 < int(jobs) <= MOST_JOBS):
            raise UserError(f"jobs={jobs}: expected a number from 1 to {MOST_JOBS}")
        jobserver.set_slots(int(jobs))
    artifacts.mkdir(exist_ok=True)
    chosen = profile.settings(given, artifacts)
    chosen.output.mkdir(parents=True, exist_ok=True)
    return chosen


def fetched(whole: profile.Profile) -> dict[str, object]:
    """Return what of a profile says what is to be fetched, by key."""
    kernel = ("source", "base", "modules", "release")
    return {
        **{f"kernel.{name}": getattr(whole.kernel, name) for name in kernel},
        **{name: getattr(whole, name) for name in ("core", "mirrors", "tcz", "extensions", "images")},
    }


def tree(folder: Path) -> list[Path]:
    """Return every file below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def links(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return what `tree` leaves out: path and target of every symlink, path and "" of every folder."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_dir()]
    return tuple(
        (str(path.relative_to(folder)), os.readlink(path) if path.is_symlink() else "") for path in found
    )


def module_files(settings: Settings) -> list[Path]:
    """Return the files of all extensions made of the profile's own kernel modules."""
    names = tce.module_extensions(settings.profile)
    return [settings.tcz / f"{name}{ending}" for name in names for ending in TCZ_ENDINGS]


def tcz_files(settings: Settings, plan: Plan, names: list[str]) -> list[Path]:
    """Return the files of extensions and of what they depend on: .tcz and all beside it."""
    found: list[Path] = []
    for name in plan.closure(names):
        kind = plan.nodes[name].kind
        endings = tce.UPSTREAM_ENDINGS if kind == "upstream" else TCZ_ENDINGS
        # Which other modules it needs is known when the kernel is built.
        own = [settings.tcz / f"{name}{ending}" for ending in endings]
        found += module_files(settings) if kind == "modules" else own
    return list(dict.fromkeys(found))


def mirror_files(settings: Settings, names: list[str]) -> list[Path]:
    """Return the files of a mirror with the extensions `names`.

    Without their .dep and .info: which have one is known when they are built.
    """
    top = tce.mirror(settings)
    folder = top / tce.mirror_folder(settings.profile)
    found = [f"{name}{ending}" for name in names for ending in (".tcz", ".tcz.list", ".tcz.md5.txt")]
    found += [f"{name}{packed}" for name in tce.DATABASES for packed in ("", ".gz")]
    tops = [top / name for name in (f"latest-{folder.parent.name}", "index.html", "SHA256SUMS")]
    carried = [top / "images" / image.file for image in settings.profile.images]
    carried += [top / "images" / settings.images_list.name] if carried else []
    return [*(folder / name for name in found), *carried, *tops]


def patch_files(settings: Settings) -> list[Path]:
    """Return what the profile's patch series is made of."""
    wanted = patches.series(settings)
    return [wanted[0].parent / "series", *wanted] if wanted else []


def base_config_files(settings: Settings) -> list[Path]:
    """Return the base config if it stands in kconfig/; if it should and does not, nothing."""
    base = settings.profile.kernel.base
    path = ROOT / "kconfig" / base if isinstance(base, str) else None
    return [path] if path and path.is_file() else []


def config_files(settings: Settings) -> list[Path]:
    """Return the base config if it stands in kconfig/, and the fragments in order.

    A fragment that does not exist is the kconfig stage's to explain.
    """
    names = [name if "/" in name else f"kconfig/{name}.config" for name in settings.fragments]
    fragments = [path for path in (ROOT / name for name in names) if path.is_file()]
    return [*base_config_files(settings), *fragments]


def image_files(settings: Settings) -> list[Path]:
    """Return what images.lst is made from: image tars of this machine, and the lock of fetched ones.

    A tar that does not exist is the images stage's to explain.
    """
    sources = [image.source for image in settings.profile.images]
    fetched = any(source.kind == "http" for source in sources)
    local = [ROOT / source.path for source in sources if source.kind == "file"]
    return [*([settings.used_lock] if fetched else []), *(path for path in local if path.is_file())]


def compiler() -> list[tuple[str, int, int]]:
    """Return what tells one compiler and linker from another, without running them.

    Path, size in bytes and mtime in nanoseconds of each program; empty where it is missing.
    """
    found = []
    for tool in ("gcc", "ld", "as"):
        try:
            path = os.path.realpath(require_tool(tool))
        except UserError:
            continue
        status = os.stat(path)
        found.append((path, status.st_size, status.st_mtime_ns))
    return found
