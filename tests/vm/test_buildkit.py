# SPDX-License-Identifier: MIT
"""The chapter that this tool comes from: `buildctl build` puts an image into containerd's store, and
no registry is asked.

Two versions of BuildKit and both workers, on two kernels that differ in the fragment `ext3-xattr`
alone; no guest has a network.  logs/buildkit*.txt of the profile keep what the commands said.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.util.checkout import CHECKOUT
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Machine
from tests.support.alternatives import build_alternative
from tests.support.built import doit
from tests.vm import registry
from tests.vm.contract import carry, empty_disk, machine, make_disc, on_tiny_cores_root, own_root

SERVICE = "/usr/local/etc/init.d/buildkit"
CONTAINERD = "/usr/local/etc/init.d/containerd"
OLD, CURRENT = "0.8", "0.34"
CONFIG = "/usr/local/etc/buildkit"
IMAGE = "docker.io/me/app:1"
BASE = "docker.io/library/busybox:1"
PASSWORD_PORT = 5001
PUSHED = f"127.0.0.1:{PASSWORD_PORT}/me/app:1"
BUILD = "buildctl build --frontend dockerfile.v0 --local context=./ --local dockerfile=./"
DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
RUN echo made > /made && echo "in a RUN"
COPY hello /bin/hello
CMD ["/bin/hello"]
"""
# The short name, as people write it.
FROM_BASE = 'FROM busybox:1\nRUN echo "on $(readlink /bin/sh)"\n'
ON_BASE = re.compile("^#[0-9]+ [0-9.]+ on /bin/busybox$", re.MULTILINE)
# The extension's registry, which has no password, in place of Docker's (docs/recipes.md).
MIRROR = '[registry."docker.io"]\nmirrors = ["127.0.0.1:5000"]\n'
# Its kernel need not have what that root waits for.
TINY_CORE = ("loglevel=3", "cde", "noembed", "nozswap", "nortc", "console=tty0", "console=ttyS0,115200")
# What the first RUN of its second stage says; the number is seconds.
RAN = re.compile("^#[0-9]+ [0-9.]+ in a RUN$", re.MULTILINE)
HELLO = '#!/bin/sh\necho "hello one, $(cat /made)"\n'
NO_ATTRIBUTE = "failed to get xattr for {0}/containerd-mount[0-9]+/[^ :]*: operation not supported"
# What a build comes to on a kernel without the fragment; None: it succeeds.
WITHOUT = {
    (CURRENT, "runc"): None,
    (CURRENT, "containerd"): NO_ATTRIBUTE.format("/var/lib/containerd/tmpmounts"),
    (OLD, "runc"): NO_ATTRIBUTE.format("/tmp"),
    (OLD, "containerd"): NO_ATTRIBUTE.format("/var/lib/containerd/tmpmounts"),
}


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


@pytest.fixture(scope="module")
def old(image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension with the older BuildKit."""
    return build_alternative(image, "buildkit", OLD, tmp_path_factory.mktemp("old")) / "buildkit.tcz"


@pytest.fixture(scope="module")
def disc(image: Settings, old: Path, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A CD with the extensions, the older BuildKit, a base image, and sources to build."""
    folder = tmp_path_factory.mktemp("disc")
    tree = folder / "tree"
    carry(image, tree, ("buildkit", "registry"))
    shutil.copy(old, tree / "old.tcz")
    lay_out_app(tree)
    done = doit(CHECKOUT.root, "image:busybox", f"profile={image.paths.name}")
    assert done.status == 0, done.output
    shutil.copy(image.paths.container_image("busybox"), tree)
    (tree / "from").mkdir()
    (tree / "from/Dockerfile").write_text(FROM_BASE)
    (tree / "buildkitd.toml").write_text(MIRROR)
    registry.lay_out(tree, PASSWORD_PORT)
    return make_disc(folder / "disc.iso", tree)


def lay_out_app(tree: Path) -> None:
    """Put app/ into the tree of a CD: what is built needs no base image, only a static program."""
    (tree / "app").mkdir()
    (tree / "app/Dockerfile").write_text(DOCKERFILE)
    (tree / "app/hello").write_text(HELLO)
    (tree / "app/hello").chmod(0o755)
    shutil.copy("/bin/busybox", tree / "app")  # static, by host.toml


@dataclass
class Chapter:
    """A guest that keeps the data of containerd and BuildKit on a fresh ext3 disk, and has ~/app to build.

    told: each command and what it said.  worker: BuildKit's.
    """

    guest: Guest
    told: list[str] = field(default_factory=list)
    worker: str = ""

    def run(self, command: str, status: int = 0) -> str:
        """Run a command, expect its exit status, and return what it said."""
        # Away from the terminal, where buildctl would draw.
        aside = f"( {command} ) > /tmp/told 2>&1; s=$?; cat /tmp/told; (exit $s)"
        said, _, ended = self.guest.run(aside, 300, check=False).rpartition("\n")
        self.told.append(f"$ {command}\n{said}\n")
        assert ended == str(status), f"{command}\n{said}\n{ended}"
        return said

    def start(self, version: str, worker: str) -> None:
        self.told.append(f"\n# BuildKit {version}, {worker}\n")
        self.worker = worker
        assert "buildkit: started (process" in self.run(f"sudo {SERVICE} restart {worker}")

    def build(self, output: str = IMAGE, status: int = 0) -> str:
        # Else ctr unpacks, while containerd's collector may take layers of the image before.
        unpacked = ",unpack=true" if self.worker != "runc" else ""
        return self.run(f"cd ~/app && time sudo {BUILD} --output type=image,name={output}{unpacked}", status)

    def edit(self, word: str) -> None:
        self.run(f"""sed -i 's/hello [a-z]*,/hello {word},/' ~/app/hello""")

    def run_image(self, name: str = IMAGE, namespace: str = "buildkit") -> str:
        return self.run(f"sudo ctr --namespace {namespace} run --rm {name} try")

    def take_old(self) -> None:
        """Put the older BuildKit before that of the extension; it cannot read the newer one's data."""
        self.run(f"sudo {SERVICE} stop && sudo sh -c 'rm -rf /var/lib/buildkit/*'")
        self.run("sudo mkdir /mnt/old && sudo mount -t squashfs -o loop /mnt/sr0/old.tcz /mnt/old")
        self.run("sudo ln -sf /mnt/old/usr/local/bin/build* /usr/local/bin/")


@contextmanager
def chapter(what: Machine, folder: Path, log: Path) -> Iterator[Chapter]:
    """Start a guest and prepare it; the transcript is written to `log` in any case."""
    with Guest(what, folder / "log", limit=2400) as guest:
        guest.login(timeout=600)
        guest.run("sudo mkdir -p /mnt/vda && sudo mount -t ext3 /dev/vda /mnt/vda")
        for name in ("containerd", "buildkit"):
            guest.run(f"sudo mkdir -p /mnt/vda/{name} /var/lib/{name}")
            guest.run(f"sudo mount --bind /mnt/vda/{name} /var/lib/{name}")
        guest.run("cp -r /mnt/sr0/app ~/app && chmod -R u+w ~/app")
        made = Chapter(guest)
        try:
            assert made.run("grep -v -e ^Iface -e ^lo /proc/net/route", status=1) == ""
            yield made
        finally:
            log.parent.mkdir(exist_ok=True)
            log.write_text("".join(made.told))
        guest.power_off()


def versions(told: Chapter) -> Iterator[str]:
    """Yield the current version, which the extension has, and then the old one."""
    for version, full in ((CURRENT, "v0.34.2"), (OLD, "v0.8.1")):
        if version == OLD:
            told.take_old()
        assert f" {full} " in told.run("buildkitd --version")
        yield version


def edit_build_run(told: Chapter) -> None:
    """Build, run by containerd, edit, build again: only what has changed is made anew."""
    told.edit("one")
    assert RAN.search(told.build())
    assert told.run_image() == "hello one, made"
    told.edit("two")
    again = told.build()
    assert "CACHED" in again and not RAN.search(again)
    assert told.run_image() == "hello two, made"


def build_push_pull(told: Chapter) -> None:
    """The runc worker has no image store, so a registry shows what it has built."""
    told.edit("three")
    assert RAN.search(told.build())
    assert "401" in told.build(f"{PUSHED},push=true", status=1)
    # Two lines, as a person would type them; neither is an argument of a program.
    login = f"printf 'me\\nhut\\n' | sudo makedockerconfig 127.0.0.1:{PASSWORD_PORT}"
    home = told.run("sudo sh -c 'echo $HOME'")  # whose it is depends on sudo
    assert told.run(login) == f"makedockerconfig: wrote {home}/.docker/config.json"
    pushed = told.build(f"{PUSHED},push=true")
    assert "CACHED" in pushed and not RAN.search(pushed)
    told.run(f"sudo rm {home}/.docker/config.json")
    told.run(f"sudo ctr images pull --plain-http --user me:hut {PUSHED} > /dev/null")
    assert told.run_image(PUSHED, "default") == "hello three, made"
    told.run(f"sudo ctr images rm --sync {PUSHED}")


def build_from_base(told: Chapter) -> None:
    """Build FROM an image that no network brings."""
    assert ON_BASE.search(told.run(f"cd /mnt/sr0/from && time sudo {BUILD}"))


def lay_in_base(told: Chapter) -> None:
    """Take an archive into the store of the containerd worker, and from there into the registry that the
    runc worker asks."""
    service = "/usr/local/etc/init.d/registry"
    told.run("sudo ctr --namespace buildkit images import /mnt/sr0/busybox.tar")
    assert "registry: started (process" in told.run(f"sudo {service} start")
    said = told.run(f"sudo NAMESPACE=buildkit {service} add {BASE}")
    assert said == "registry: 127.0.0.1:5000/library/busybox:1"


def build_import(told: Chapter) -> None:
    """The runc worker writes a file, which containerd takes."""
    told.edit("three")
    output = f"type=docker,name={IMAGE},dest=/tmp/app.tar"
    assert RAN.search(told.run(f"cd ~/app && sudo {BUILD} --output {output}"))
    told.run("sudo ctr images import /tmp/app.tar")
    assert told.run_image(namespace="default") == "hello three, made"


def test_both_versions_build_by_both_workers(image: Settings, disc: Disk, tmp_path: Path) -> None:
    what = machine(image, "nodhcp cde noembed", disc, empty_disk(tmp_path / "ext3.img", 1024), memory=2048)
    with chapter(what, tmp_path, image.paths.logs / "buildkit.txt") as told:
        told.run(f"sudo {CONTAINERD} start")
        lay_in_base(told)
        registry.start(told.guest, PASSWORD_PORT)
        for version in versions(told):
            told.start(version, "containerd")
            edit_build_run(told)
            build_from_base(told)
            told.run(f"sudo mkdir -p {CONFIG} && sudo cp /mnt/sr0/buildkitd.toml {CONFIG}")
            told.start(version, "runc")
            build_push_pull(told)
            build_from_base(told)
            told.run(f"sudo rm {CONFIG}/buildkitd.toml")  # only one of them has to ask
        # Where functions are looked for.
        told.start(version, "containerd openfaas-fn")
        told.build()
        assert told.run_image(namespace="openfaas-fn") == "hello three, made"
        assert told.run_image() == "hello two, made"


def test_without_the_fragment(plain_kernel: Path, image: Settings, disc: Disk, tmp_path: Path) -> None:
    """The error that led here, in its own words."""
    disk = empty_disk(tmp_path / "ext3.img", 1024)
    what = machine(image, "nodhcp cde noembed", disc, disk, memory=2048, kernel=plain_kernel)
    with chapter(what, tmp_path, image.paths.logs / "buildkit-no-ext3-xattr.txt") as told:
        for version in versions(told):
            for worker in ("runc", "containerd"):
                told.start(version, worker)
                error = WITHOUT[version, worker]
                said = told.build(status=1 if error else 0)
                assert error is None or re.search(error, said), said


@pytest.fixture(scope="module")
def tiny_core(image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    boot = replace(image.profile.boot, bootcodes=TINY_CORE)
    changed = replace(image, profile=replace(image.profile, boot=boot))
    return on_tiny_cores_root(changed, tmp_path_factory.mktemp("tinycore"))


def test_on_tiny_cores_own_root(tiny_core: Settings, image: Settings, old: Path, tmp_path: Path) -> None:
    """The story's own system: its root is of 2020, so everything there is static."""
    tree = tmp_path / "tree"
    optional = tree / "cde/optional"
    optional.mkdir(parents=True)
    # What they depend on there is Tiny Core's own.
    for made in (build_alternative(image, "containerd", "go", tmp_path / "go") / "containerd.tcz", old):
        shutil.copy(made, optional)
    (tree / "cde/onboot.lst").write_text("containerd.tcz\nbuildkit.tcz\n")
    lay_out_app(tree)
    disks = make_disc(tmp_path / "disc.iso", tree), empty_disk(tmp_path / "ext3.img", 1024)
    what = machine(tiny_core, "", *disks, memory=2048, append=" ".join(TINY_CORE))
    with chapter(what, tmp_path, image.paths.logs / "buildkit-tinycore.txt") as told:
        told.run("grep -x 'VERSION=.11.0.' /etc/os-release")
        # There is no iptables here, and no container has a network.
        told.run("sudo mkdir -p /usr/local/etc/containerd")
        told.run("""echo 'WITHOUT="netfilter"' | sudo tee /usr/local/etc/containerd/settings""")
        told.start(OLD, "containerd")
        edit_build_run(told)
        # Debian's registry needs a newer C library than this one.
        told.start(OLD, "runc")
        build_import(told)
