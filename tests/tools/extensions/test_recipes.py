# SPDX-License-Identifier: MIT
"""The project's recipes of upstream releases, with stand-ins of the same layout on a mirror.

Upstream itself is not asked: what is tested is that a recipe finds everything in an archive
laid out as its comment says, and what comes out of it.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.config import plan, recipe
from tasks.config.profile import Extension
from tasks.extensions import build as extensions_build
from tasks.fetch import recipe_inputs
from tasks.formats.squashfs import squashfs_members
from tasks.origins import http
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.mirror import Mirror, Page
from tests.support.settings import with_values
from tests.support.standins import BUILDCTL, BUILDKITD, FAASD, PLAIN, compiled
from tests.support.workshop import INFO, Workshop

GITHUB = "https://github.com"
RAW = "https://raw.githubusercontent.com"
BUILDKIT = "moby/buildkit/releases/download/v{0}/buildkit-v{0}.linux-amd64.tar.gz"
FAASD_RELEASE = "openfaas/faasd/releases/download/0.18.8/faasd"
FAAS_CLI = "openfaas/faas-cli/releases/download/0.16.25/faas-cli"
WATCHDOG = "openfaas/of-watchdog/releases/download/0.9.15/fwatchdog-amd64"
FAASD_TREE = "openfaas/faasd/0.18.8"
CONTAINERD = "containerd/containerd/releases/download/v1.7.27/containerd-1.7.27-linux-amd64.tar.gz"
RUNC = "opencontainers/runc/releases/download/v1.2.6"
CNI = "containernetworking/plugins/releases/download/v1.6.2/cni-plugins-linux-amd64-v1.6.2.tgz"


@dataclass
class Upstream:
    """A mirror in place of upstream, and extensions built from it."""

    workshop: Workshop
    mirror: Mirror
    folder: Path

    def take(self, name: str) -> None:
        """Take the project's recipe, its urls on the mirror; each extension that it depends on is
        made up."""
        target = self.workshop.folder / "extensions" / name
        shutil.copytree(CHECKOUT.root / "extensions" / name, target, symlinks=True)
        (target / "lock.toml").unlink(missing_ok=True)
        text = (target / "recipe.toml").read_text()
        assert GITHUB in text
        for host in (GITHUB, RAW):
            text = text.replace(f"{host}/", f"{self.mirror.url}/")
        # What is served here is not what others publish.
        text = re.sub(r"(?m)^(sha256|published_by) = .*\n", "", text)
        (target / "recipe.toml").write_text(text)
        for dep in tomllib.loads(text)["deps"]:
            if dep.endswith("-KERNEL"):
                continue
            self.workshop.extension(dep, INFO, {f"usr/local/share/{dep}/x": "x"})
            extensions_build.build(self.workshop.settings, dep)

    def serve(self, path: str, content: bytes, sums: str = "") -> None:
        self.mirror.pages[path] = Page(content)
        if sums:
            digest = hashlib.sha256(content).hexdigest()
            self.mirror.pages[f"{path}.{sums}"] = Page(f"{digest}  bin/{Path(path).name}\n".encode())

    def program(self, name: str, source: str = PLAIN, *flags: str) -> bytes:
        return compiled(self.folder / name, source, *flags).read_bytes()

    def choose(self, name: str, alternative: str) -> None:
        """Make the profile name the extension with an alternative."""
        settings = self.workshop.settings
        entry = Extension(name, alternative=alternative)
        self.workshop.settings = replace(settings, profile=replace(settings.profile, extensions=(entry,)))

    def build(self, name: str) -> dict[str, str]:
        """Lock, fetch and build; return path -> octal mode of all files in the extension."""
        settings = self.workshop.settings
        recipe_inputs.lock(settings, name)
        recipe_inputs.fetch(settings, name)
        extensions_build.build(settings, name)
        members = squashfs_members(settings.paths.tcz / f"{name}.tcz")
        return {item.name: f"{item.mode & 0o7777:o}" for item in members if item.mode & 0o170000 == 0o100000}


@pytest.fixture
def upstream(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http, "DELAYS", (0.0,))
    workshop.package("unused", {"x": b""})
    with Mirror() as mirror:
        yield Upstream(workshop, mirror, tmp_path / "programs")


def archive(files: dict[str, bytes]) -> bytes:
    """Return a .tar.gz with folders as upstream's has them; every file is a program."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for folder in sorted({str(Path(name).parent) for name in files} - {"."}):
            entry = tarfile.TarInfo(f"{folder}/")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def buildkit_archive(upstream: Upstream, *more: str) -> bytes:
    plain = upstream.program("plain")
    files = {
        "bin/buildctl": upstream.program("buildctl", BUILDCTL),
        "bin/buildkit-qemu-arm": plain,
        "bin/buildkit-runc": plain,
        "bin/buildkitd": upstream.program("buildkitd", BUILDKITD),
    }
    return archive(files | dict.fromkeys(more, plain))


OWN_OF_BUILDKIT = {
    "usr/local/bin/makedockerconfig": "755",
    "usr/local/etc/init.d/buildkit": "755",
    "usr/local/share/bash-completion/completions/buildctl": "644",
}
PROGRAMS = {f"usr/local/bin/{name}": "755" for name in ("buildctl", "buildkit-runc", "buildkitd")}


@pytest.mark.parametrize(
    ("alternative", "version", "more"),
    [
        ("release", "0.32.2", ("buildkit-cni-bridge", "buildkit-cni-loopback")),
        ("0.8-release", "0.8.1", ()),
    ],
)
def test_buildkit(upstream: Upstream, alternative: str, version: str, more: tuple[str, ...]) -> None:
    upstream.take("buildkit")
    upstream.serve(BUILDKIT.format(version), buildkit_archive(upstream, *(f"bin/{name}" for name in more)))
    upstream.choose("buildkit", alternative)
    found = upstream.build("buildkit")
    assert found == OWN_OF_BUILDKIT | PROGRAMS | {f"usr/local/bin/{name}": "755" for name in more}
    assert upstream.workshop.side("buildkit", ".dep").split() == [
        *("coreutils.tcz", "containerd.tcz", "attr.tcz"),
    ]
    assert f"Version:        {version}\n" in upstream.workshop.side("buildkit", ".info")
    asked = {request.path for request in upstream.mirror.requests}
    assert asked == {BUILDKIT.format(version)}, "the other alternative was asked for"


def test_same_archive_same_bytes_from_the_cache_alone(upstream: Upstream, tmp_path: Path) -> None:
    upstream.take("buildkit")
    upstream.choose("buildkit", "release")
    upstream.serve(BUILDKIT.format("0.32.2"), buildkit_archive(upstream, "bin/buildkit-cni-bridge"))
    upstream.build("buildkit")
    first = sha256_file(upstream.workshop.settings.paths.tcz / "buildkit.tcz")
    upstream.mirror.requests.clear()
    again = with_values(upstream.workshop.settings, offline=True)
    (again.paths.tcz / "buildkit.tcz").unlink()
    recipe_inputs.fetch(again, "buildkit")
    extensions_build.build(again, "buildkit")
    assert sha256_file(again.paths.tcz / "buildkit.tcz") == first
    assert upstream.mirror.requests == []


def faasd(upstream: Upstream, program: bytes) -> None:
    upstream.take("faasd")
    upstream.serve(FAASD_RELEASE, program, "sha256")
    upstream.serve(FAAS_CLI, upstream.program("faas-cli"), "sha256")
    upstream.serve(WATCHDOG, upstream.program("fwatchdog"), "sha256")
    for name in ("docker-compose.yaml", "prometheus.yml", "resolv.conf"):
        upstream.serve(f"{FAASD_TREE}/{name}", f"this is {name}\n".encode())


def test_faasd(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    faasd(upstream, upstream.program("faasd", FAASD))
    share = "usr/local/share/faasd"
    assert upstream.build("faasd") == {
        "usr/local/bin/faas-cli": "755",
        "usr/local/bin/faasd": "755",
        "usr/local/bin/fn-build": "755",
        "usr/local/etc/init.d/faasd": "755",
        "usr/local/lib/faasd/faasd": "755",
        "usr/local/share/bash-completion/completions/faas-cli": "644",
        f"{share}/docker-compose.yaml": "644",
        f"{share}/fwatchdog": "755",
        f"{share}/prometheus.yml": "644",
        f"{share}/resolv.conf": "644",
        f"{share}/template/Dockerfile": "644",
        f"{share}/template/handler": "755",
    }
    # The profile's modules lie in the core.
    assert upstream.workshop.side("faasd", ".dep").split() == [
        *("coreutils.tcz", "containerd.tcz", "iptables.tcz", "ca-certificates.tcz"),
    ]
    assert "Version:        0.18.8\n" in upstream.workshop.side("faasd", ".info")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lock: http")]
    assert [line.split("  ")[2] for line in said] == ["as published"] * 3 + ["no checksum published"] * 3


def test_faasd_on_a_kernel_with_split_modules(upstream: Upstream) -> None:
    """Then, what the core does not hold is an extension it depends on."""
    faasd(upstream, upstream.program("faasd", FAASD))
    settings = upstream.workshop.settings
    kernel = replace(settings.profile.kernel, modules="split", release="6.1")
    upstream.workshop.settings = replace(settings, profile=replace(settings.profile, kernel=kernel))
    upstream.build("faasd")
    assert "original-modules-KERNEL.tcz" in upstream.workshop.side("faasd", ".dep").split()


def test_upstreams_containerd_in_place_of_apts(upstream: Upstream) -> None:
    upstream.take("containerd")
    plain = upstream.program("plain")
    names = ("containerd", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "containerd-stress", "ctr")
    upstream.serve(CONTAINERD, archive({f"bin/{name}": plain for name in names}), "sha256sum")
    upstream.serve(f"{RUNC}/runc.amd64", plain)
    sums = f"{'0' * 64}  runc.arm64\n{hashlib.sha256(plain).hexdigest()}  runc.amd64\n"
    upstream.mirror.pages[f"{RUNC}/runc.sha256sum"] = Page(sums.encode())
    plugins = {f"./{name}": plain for name in ("bridge", "loopback", "LICENSE", "README.md")}
    upstream.serve(CNI, archive(plugins), "sha256")
    upstream.choose("containerd", "release")
    found = upstream.build("containerd")
    programs = {path for path in found if not path.startswith("usr/local/share/")}
    assert programs == {
        *("opt/cni/bin/bridge", "opt/cni/bin/loopback"),
        *("usr/local/etc/init.d/containerd", "usr/local/bin/import-images", "usr/local/lib/containerd/ctr"),
        *(f"usr/local/bin/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr", "runc")),
    }
    # Which apt packages the profile fetches does not depend on what it does not take.
    assert (
        recipe.packages({"containerd": plan.recipe_of(upstream.workshop.settings.profile, "containerd")})
        == ()
    )


def test_another_file_than_the_locked_one(upstream: Upstream) -> None:
    faasd(upstream, upstream.program("faasd", FAASD))
    upstream.build("faasd")
    shutil.rmtree(upstream.workshop.settings.paths.cache / "downloads")
    upstream.serve(FAASD_RELEASE, b"something else", "sha256")
    with pytest.raises(UserError, match="extension faasd: faasd: no mirror has the locked file: ") as caught:
        recipe_inputs.fetch(upstream.workshop.settings, "faasd")
    assert "wrong sha256" in caught.value.message
    assert "./doit lock:faasd relock=1" in caught.value.hint


@pytest.mark.parametrize("name", ["buildkit", "faasd"])
def test_unlocked_recipes_are_refused_before_anything_is_asked(upstream: Upstream, name: str) -> None:
    upstream.take(name)
    with pytest.raises(
        UserError, match=rf"no sha256 is locked for .*, which extension {name} needs"
    ) as caught:
        recipe_inputs.fetch(upstream.workshop.settings, name)
    assert caught.value.hint.startswith(f"./doit lock:{name}")
    with pytest.raises(UserError, match="was not fetched yet") as caught:
        extensions_build.build(upstream.workshop.settings, name)
    assert caught.value.hint == f"./doit fetch:{name}"
    assert upstream.mirror.requests == []


def test_a_library_that_an_archives_program_lacks(upstream: Upstream) -> None:
    """The error names the package, as dpkg of this machine knows it."""
    flags = ("-Wl,--no-as-needed", "-lcrypto")
    faasd(upstream, upstream.program("faasd-dynamic", PLAIN, *flags))
    error = r"faasd: usr/local/lib/faasd/faasd needs libcrypto\.so\.\d"
    with pytest.raises(UserError, match=error) as caught:
        upstream.build("faasd")
    assert caught.value.hint.startswith("libssl")
    assert "provides it: add it to `packages`, or depend on an extension that has it" in caught.value.hint
    assert not (upstream.workshop.settings.paths.tcz / "faasd.tcz").exists()


def test_a_dynamic_program_whose_libraries_are_there(upstream: Upstream) -> None:
    """libc of the base; the check is of the real program's own needs."""
    faasd(upstream, upstream.program("faasd-dynamic", PLAIN, "-Wl,--as-needed"))
    assert "usr/local/lib/faasd/faasd" in upstream.build("faasd")


def test_a_clash_with_what_it_depends_on(upstream: Upstream) -> None:
    upstream.take("buildkit")
    upstream.workshop.extension("containerd", INFO, {"usr/local/bin/buildctl": "taken"})
    extensions_build.build(upstream.workshop.settings, "containerd")
    upstream.choose("buildkit", "release")
    upstream.serve(BUILDKIT.format("0.32.2"), buildkit_archive(upstream, "bin/buildkit-cni-bridge"))
    with pytest.raises(UserError, match=r"containerd\.tcz and buildkit\.tcz both contain usr/local/bin"):
        upstream.build("buildkit")


def test_an_archive_of_another_layout(upstream: Upstream) -> None:
    upstream.take("buildkit")
    upstream.choose("buildkit", "release")
    upstream.serve(BUILDKIT.format("0.32.2"), archive({"buildctl-only": b"x"}))
    with pytest.raises(UserError, match=r"no file of buildkit-v0\.32\.2\.linux-amd64\.tar") as caught:
        upstream.build("buildkit")
    assert "'*/buildkitd'" in caught.value.message


def test_an_archive_that_would_leave_its_folder(upstream: Upstream) -> None:
    upstream.take("buildkit")
    upstream.choose("buildkit", "release")
    upstream.serve(BUILDKIT.format("0.32.2"), archive({"bin/../../outside": b"x"}))
    with pytest.raises(UserError, match=r"leaves the folder by '..'"):
        upstream.build("buildkit")
    assert not list(upstream.workshop.settings.paths.output.rglob("outside"))
