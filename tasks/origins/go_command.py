# SPDX-License-Identifier: MIT
"""The go command: it fetches Go modules, and finds those that a program is made of.

The Go toolchain of a recipe is a locked input, the module golang.org/toolchain (go.dev/doc/toolchain).
Its go command is one static program, so it runs on this machine and in every build root.  The go
command of a build root fetches it the first time.

Go modules come from where `go env GOPROXY` of this machine's user says, by that person's settings.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import go_module
from tasks.formats.archive import unpack_zip
from tasks.formats.go_module import Module
from tasks.util import file_record
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import atomic_dir, locked, scratch_folder, sha256_file
from tasks.util.log import logger
from tasks.util.process import run

TOOLCHAIN = "golang.org/toolchain"
PLATFORM = {"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1"}
# How to reach a module proxy, or the repositories behind it (go help environment).
SETTINGS = re.compile(r"GO(PROXY|PRIVATE|NOPROXY|SUMDB|NOSUMDB|INSECURE|AUTH|VCS|ENV)|NETRC|SSH_AUTH_SOCK")
# A request to the checksum database that got no answer.  By 404 and 410 it answers that it does not
# know the module (go.dev/ref/mod#checksum-database).
NO_DATABASE = re.compile(r'verifying (?:module|go\.mod): .*(?:reading |Get ")https?://\S+: (?!404 |410 )')
# go.mod replaces a module by a folder, which has no go.mod: a module's zip never holds another module.
REPLACED = re.compile(r"\(replaced by (\.{1,2}|\.{0,2}/[^)]*)\)")
# What -mod=readonly refuses to add to the two files, each with a word of go's message.
UNTIDY = {
    "go.sum": re.compile(r"missing go\.sum entry"),
    "go.mod": re.compile(r"updates to go\.mod needed|import lookup disabled by -mod=readonly"),
}
ADDRESS = re.compile(r"\bhttps?://|\bGOPROXY\b")
MISMATCH = re.compile(r"(\S+): checksum mismatch\s+downloaded:\s*(\S+)\s+(\S+):\s*(\S+)")
# Modules come from the proxy that is named, and from nowhere else.
LOCKED_ONLY = {"GOENV": "off", "GONOPROXY": "none", "GOSUMDB": "off", "GOVCS": "*:off"}
OUTPUT = "  | "
"""What begins a line of a program's output in an error's detail (tasks/util/process.py)."""
HINT = "check the network and Go's settings on this machine: go env GOPROXY GOPRIVATE, ~/.netrc"


def toolchain(release: str) -> Module:
    """Return the module of a Go release, such as 1.27.3."""
    return Module(TOOLCHAIN, f"v0.0.1-go{release}.linux-amd64")


@dataclass(frozen=True)
class Folders:
    """The folders of one run of the go command, all below `top`, which the caller removes."""

    top: Path

    @property
    def modules(self) -> Path:
        """The module cache."""
        return self.top / "modules"

    @property
    def downloads(self) -> Path:
        """The files that the module cache was filled from, laid out as a proxy."""
        return self.modules / "cache/download"

    @property
    def proxy(self) -> Path:
        """A proxy made of locked files."""
        return self.top / "proxy"

    @property
    def main(self) -> Path:
        """The main module, unpacked."""
        return self.top / "main"

    def environment(self, *, cgo: bool) -> dict[str, str]:
        """Return the environment of every go command that looks at the main module."""
        return PLATFORM | {
            "GOMODCACHE": str(self.modules),
            "GOCACHE": str(self.top / "compiled"),
            "GOPATH": str(self.top / "gopath"),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=readonly -modcacherw",
            "GO111MODULE": "on",
            "GOWORK": "off",
            "GOTELEMETRY": "off",
            "CGO_ENABLED": "1" if cgo else "0",
        }


def user_settings() -> dict[str, str]:
    """Return what this machine's environment says about module proxies."""
    return {name: value for name, value in os.environ.items() if SETTINGS.fullmatch(name)}


@dataclass(frozen=True)
class GoCommand:
    """A go command: the words that start it, and its GOROOT."""

    words: tuple[str, ...]
    root: Path

    def run(
        self,
        *arguments: str,
        what: str,
        env: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        box: Sequence[str] = (),
        hint: str = HINT,
    ) -> str:
        """Run it and return its standard output.

        what: what failed, for the message.  Raises `UserError` with one line of what go said.
        """
        env = dict(env) | {"GOROOT": str(self.root)}
        try:
            return run([*self.words, *arguments], env=env, cwd=cwd, log=log, box=box).stdout
        except DiskFull:
            raise
        except UserError as error:
            detail = error.detail
            raise UserError(f"{what}: {reason(detail)}", hint, detail) from None

    def download(self, module: Module, folders: Folders, env: Mapping[str, str], hint: str = HINT) -> None:
        """Fetch a module into the module cache; the checksum database is asked by the user's settings.

        hint: as of `run`.  Where the database cannot be reached, say so and go on without.  Raises
        `UserError` if no proxy has the module, or the database knows another one, or none.
        """
        what = f"go cannot fetch {module}"
        folders.top.mkdir(parents=True, exist_ok=True)
        try:
            self.run("mod", "download", str(module), what=what, env=env, cwd=folders.top, hint=hint)
        except UserError as error:
            if not NO_DATABASE.search(error.detail):
                raise
            said = "Go's checksum database cannot be reached; what the proxy serves is locked unchecked"
            logger.warning(f"{module}: {said}")
            unasked = {**env, "GOSUMDB": "off"}
            self.run("mod", "download", str(module), what=what, env=unasked, cwd=folders.top, hint=hint)


def _printed(detail: str) -> list[str]:
    """Return the lines that a command printed on its end, from an error's detail."""
    return [line.removeprefix(OUTPUT).strip() for line in detail.splitlines() if line.startswith(OUTPUT)]


def reason(detail: str) -> str:
    """Return one line of what the go command printed on its end, from an error's detail."""
    printed = _printed(detail)
    mismatch = MISMATCH.search("\n".join(printed))
    if mismatch:
        module, got, by, wanted = mismatch.groups()
        return f"{module} is {got}, {by} says {wanted}"
    printed = [line for line in printed if line and not line.startswith("go: downloading ")]
    said = [line.removeprefix("go: ") for line in printed if line.startswith("go: ")]
    if said:
        return said[-1]
    # A compiler's first complaint; `# PACKAGE` comes before it, "too many errors" after the last.
    return next((line for line in printed if not line.startswith("# ")), "it does not say why")


def explained(module: Module, error: UserError) -> UserError:
    """Return the error for a main module that go cannot load, from the one that `GoCommand.run` raised.

    The module's own go.mod or go.sum may be at fault, or the network.
    """
    if isinstance(error, DiskFull):
        return error
    printed = "\n".join(_printed(error.detail))
    replaced = REPLACED.search(printed)
    if replaced:
        return replaced_by_folder(module, replaced[1])
    for name, said in UNTIDY.items():
        if said.search(printed):
            message = f"{module}: its {name} does not say all that its programs need"
            return UserError(message, "its authors did not run go mod tidy; choose another version")
    return error.reworded(error.message, HINT) if ADDRESS.search(printed) else error


def replaced_by_folder(module: Module, folder: str) -> UserError:
    """Return the error for a main module that needs the folder `folder` of its authors' machine."""
    message = f"{module}: its go.mod replaces a module by the folder {folder}, which no lock can hold"
    return UserError(message, "choose another version")


def outside(words: Sequence[str]) -> GoCommand:
    """Return the go command of a distribution's package, which the last of `words` names.

    The words may start it by a dynamic loader.  Then it cannot find its GOROOT by itself.
    """
    return GoCommand(tuple(words), Path(words[-1]).resolve().parent.parent)


def installed(cache: Path, archive: Path) -> GoCommand:
    """Return the go command of a Go toolchain's zip, which is unpacked in the cache once.

    A module's zip holds no modes, so the programs get their executable bits here.  If a file of it has
    changed since, it is unpacked again.  Raises `UserError` if the zip is damaged.
    """
    module = go_module.of_file_name(archive.name)
    assert module is not None
    folder = cache / "go" / f"{module.version}-{sha256_file(archive)[:16]}"
    if file_record.faults(folder):
        with locked(folder.with_name(".lock")):
            bad = file_record.faults(folder)  # another build may have made it meanwhile
            if not folder.is_dir():
                with atomic_dir(folder) as partial:
                    _fill(partial, archive, module)
            elif bad:
                logger.warning(f"{folder}: {file_record.told(bad)}; it is unpacked again")
                with scratch_folder(folder.parent, folder.name) as fresh:
                    _fill(fresh, archive, module)
                    file_record.mend(folder, fresh)
    root = folder / file_record.ROOT
    return GoCommand((str(root / "bin/go"),), root)


def _fill(folder: Path, archive: Path, module: Module) -> None:
    """Unpack a Go toolchain's zip below the new folder `folder`, and record its files."""
    unpack_zip(archive, folder / "all", label=archive.name)
    root = folder / file_record.ROOT
    os.rename(folder / "all" / str(module), root)
    shutil.rmtree(folder / "all")
    for pattern in ("bin/*", "pkg/tool/*/*"):
        for program in root.glob(pattern):
            program.chmod(0o755)
    file_record.write(folder, file_record.found(root))
