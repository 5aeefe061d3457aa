# SPDX-License-Identifier: MIT
"""The loop: edit a file, build, and the image stands in containerd's store and runs.

No registry and no network; at the end a registry in the same guest, for push=true.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.vm import registry
from tests.vm.contract import carry, empty_disk, machine, make_disc, own_root

SERVICE = "/usr/local/etc/init.d/containerd"
BASE = "localhost/busybox:1"
APP = "localhost/app:1"
STORE = "/var/lib/containers"
# Short names, arguments and stages: what has to be found in containerd's store is to be read from here.
DOCKERFILE = """\
ARG BASE=busybox:1
FROM ${BASE} AS base
RUN echo made > /made && echo "in a RUN"
FROM base
COPY hello /bin/hello
CMD ["/bin/hello"]
"""
FAILING = f"FROM {BASE}\nRUN echo before; echo broken >&2; exit 7\n"
FILLING = f"FROM {BASE}\nRUN dd if=/dev/zero of=/big bs=1M count=64\n"
COPIED = "FROM scratch\nCOPY --from=bare / /\nRUN echo made > /made\nCOPY hello /bin/\nCMD /bin/hello\n"
# ctr, whose first import ends as it does when the snapshot below a new layer has been collected.
COLLECTED = """\
#!/bin/sh
CTR=/usr/local/lib/containerd/ctr
case "$*" in
	"images import"*)
		if mkdir /tmp/collected 2>/dev/null; then
			$CTR images import --no-unpack - > /dev/null || exit
			echo 'ctr: failed to prepare snapshot: parent snapshot sha256:0 does not exist: not found' >&2
			exit 1
		fi
		;;
esac
exec $CTR "$@"
"""
HELLO = '#!/bin/sh\necho "hello one, $(cat /made)"\n'


@pytest.fixture(scope="module")
def image() -> Settings:
    return own_root()


def docker_archive(folder: Path, target: Path, name: str, history: bool = True) -> None:
    """Write an image as `docker save` does (Docker image specification v1.2): busybox, one layer."""
    root, saved = folder / "root", folder / "saved"
    (root / "bin").mkdir(parents=True)
    saved.mkdir()
    shutil.copy("/bin/busybox", root / "bin")  # static, by host.toml
    for link in ("sh", "echo", "cat", "dd"):
        (root / "bin" / link).symlink_to("busybox")
    subprocess.run(["tar", "-C", root, "--owner=0", "--group=0", "-cf", saved / "layer.tar", "."], check=True)
    diff_id = hashlib.sha256((saved / "layer.tar").read_bytes()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        **({"history": [{"created_by": "busybox"}]} if history else {}),
    }
    (saved / "config.json").write_text(json.dumps(config))
    listed = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    (saved / "manifest.json").write_text(json.dumps(listed))
    names = ("config.json", "layer.tar", "manifest.json")
    subprocess.run(["tar", "-C", saved, "-cf", target, *names], check=True)


@pytest.fixture(scope="module")
def disc(image: Settings, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A CD with the extensions, a base image, sources to build, and a registry's settings."""
    folder = tmp_path_factory.mktemp("disc")
    tree = folder / "tree"
    carry(image, tree, ("buildah", "registry"))
    docker_archive(folder / "base", tree / "busybox.tar", BASE)
    docker_archive(folder / "bare", tree / "bare.tar", "docker.io/library/bare:latest", history=False)
    (tree / "app").mkdir()
    for name, content in {
        "Dockerfile": DOCKERFILE,
        "Failing": FAILING,
        "Filling": FILLING,
        "Copied": COPIED,
    }.items():
        (tree / "app" / name).write_text(content)
    for name, content in {"app/hello": HELLO, "collected": COLLECTED}.items():
        (tree / name).write_text(content)
        (tree / name).chmod(0o755)
    registry.lay_out(tree)
    return make_disc(folder / "disc.iso", tree)


@contextmanager
def builder(image: Settings, disc: Disk, folder: Path, bootcodes: str, **changes: object) -> Iterator[Guest]:
    """A guest without network: both stores on one fresh ext3 disk, containerd started, ~/app to build."""
    disk = empty_disk(folder / "ext3.img", 512)
    what = machine(image, f"nodhcp cde {bootcodes}", disc, disk, memory=1500, **changes)
    with Guest(what, folder / "log", limit=900) as guest:
        guest.login()
        guest.run("sudo mkdir -p /mnt/vda && sudo mount -t ext3 /dev/vda /mnt/vda")
        for name in ("containerd", "containers"):
            guest.run(f"sudo mkdir -p /mnt/vda/{name} /var/lib/{name}")
            guest.run(f"sudo mount --bind /mnt/vda/{name} /var/lib/{name}")
        guest.run(f"sudo {SERVICE} start 2>&1", 120)
        guest.run("cp -r /mnt/sr0/app ~/app && cd ~ && chmod -R u+w app")
        yield guest
        guest.power_off()


def build(guest: Guest, words: str = f"-t {APP} app", status: int = 0, sudo: str = "sudo") -> str:
    """Run ctr-build, expect its exit status, and return what it said; nothing may be left behind."""
    said = guest.run(f"{sudo} ctr-build {words} 2>&1", 240, check=False)
    said, _, ended = said.rpartition("\n")
    assert ended == str(status), f"{said}\n{ended}"
    left = f"ls -d {STORE}/ctr-build.* /run/ctr-build.* /tmp/*containers* /tmp/*buildah* 2>/dev/null"
    assert guest.run(left, check=False) in ("1", "2")
    return said


def stored(guest: Guest, name: str) -> str:
    """Return the digest that containerd's store has for `name`, "" for none."""
    return guest.run(f'sudo ctr images ls | awk \'$1 == "{name}" {{ printf "%s", $3 }}\'')


def layers(guest: Guest, name: str) -> list[str]:
    manifest = json.loads(guest.run(f"sudo ctr content get {stored(guest, name)}"))
    return [layer["digest"] for layer in manifest["layers"]]


def run(guest: Guest, name: str, options: str = "") -> str:
    return guest.run(f"sudo ctr run --rm {options} {name} it", 120)


def test_edit_build_run_push(image: Settings, disc: Disk, tmp_path: Path) -> None:
    with builder(image, disc, tmp_path, "noembed") as guest:
        said = build(guest, status=1)
        assert "ctr-build: image busybox:1, which /home/tc/app/Dockerfile asks for, is neither in" in said
        assert 'by "ctr images import FILE.tar", or fetch it by "ctr images pull docker.io/libr' in said
        guest.run("sudo ctr images import /mnt/sr0/busybox.tar", 120)

        first = build(guest)
        assert "ctr-build: warning" not in first
        assert f"ctr-build: took {BASE} from containerd's store in" in first
        assert "\nin a RUN\n" in first
        assert f"ctr-build: {APP} {stored(guest, APP)}" in first
        assert run(guest, APP) == "hello one, made\n"
        old = layers(guest, APP)
        # The base's layer is there; what is moved are those made here, and the config.
        assert old[0] == layers(guest, BASE)[0]
        assert ", 3 new blobs" in first

        guest.run("sed -i s/one/two/ app/hello")
        second = build(guest)
        assert "Using cache" in second and "\nin a RUN\n" not in second
        assert "took" not in second
        assert ", 2 new blobs" in second
        assert f"ctr-build: {APP} {stored(guest, APP)}" in second
        assert run(guest, APP) == "hello two, made\n"
        new = layers(guest, APP)
        assert new[:2] == old[:2] and new[2] != old[2]
        for name, text in (("first", first), ("second", second)):
            print(f"{name}: {re.findall('ctr-build: built in .*', text)}")

        digest = stored(guest, APP)
        assert ", 0 new blobs" in build(guest)
        collected_meanwhile(guest)
        build(guest)
        assert stored(guest, APP) == digest
        committed_by_hand(guest)
        what_fails_is_told(guest)
        assert stored(guest, APP) == digest
        added_to_a_registry(guest)
        pushed_and_pulled(guest)


def collected_meanwhile(guest: Guest) -> None:
    """containerd's collector took what only the image before stood on, after ctr had moved the name."""
    guest.run("sed -i s/two/three/ app/hello")
    guest.run("sudo mount --bind /mnt/sr0/collected /usr/local/bin/ctr")
    said = build(guest)
    guest.run("sudo umount /usr/local/bin/ctr")
    assert "ctr-build: layers of the image before went while they were needed: once more" in said
    assert run(guest, APP) == "hello three, made\n"
    guest.run("sed -i s/three/two/ app/hello")


def committed_by_hand(guest: Guest) -> None:
    """A change without a Dockerfile, by buildah alone (runc isolates it), as the README has it."""
    change = "sh -c 'echo by hand > /made'"
    guest.run(f"box=$(sudo buildah from --pull-never {APP}) && sudo buildah run $box {change}", 120)
    guest.run("sudo buildah commit -q $box draft && sudo buildah rm $box", 120)
    guest.run("mkdir draft && echo FROM draft > draft/Containerfile")
    assert ", 2 new blobs" in build(guest, "-t app:2 draft")
    assert run(guest, "localhost/app:2") == "hello two, by hand\n"


def what_fails_is_told(guest: Guest) -> None:
    assert "no Dockerfile (nor Containerfile) in /tmp;" in build(guest, "/tmp", 1)
    assert "there is no folder nowhere" in build(guest, "nowhere", 1)
    assert "usage: ctr-build" in build(guest, "--sideways app", 2)
    assert "push=true needs a registry in the name" in build(guest, "push=true app", 2)
    assert "needs root: sudo /usr/local/bin/ctr-build" in build(guest, "app", 1, sudo="")
    assert "ctr images pull docker.io/library/no:3" in build(guest, "--build-arg BASE=no:3 app", 1)

    said = build(guest, "-t failing -f app/Failing app", 7)
    assert "\nbefore\nbroken\n" in said
    assert "exit status 7" in said
    assert "ctr-build: the build failed; containerd's store is as before" in said
    assert stored(guest, "localhost/failing:latest") == ""
    assert guest.run("sudo buildah containers -q") == ""

    guest.run(f"sudo mount -t tmpfs -o size=24m small {STORE}")
    said = build(guest, "-t filling -f app/Filling app", 1)
    assert f"warning: {STORE} lies in RAM (tmpfs)" in said
    assert "ctr-build: a disk ran full; now " in said
    guest.run(f"sudo umount {STORE}")

    guest.run(f"sudo {SERVICE} stop")
    assert f"containerd does not run: sudo {SERVICE} start" in build(guest, status=1)
    guest.run(f"sudo {SERVICE} start", 120)


def added_to_a_registry(guest: Guest) -> None:
    """What a builder without an image store builds FROM: an image of containerd's, on the loopback."""
    script = "/usr/local/etc/init.d/registry"
    answer = guest.run(f"sudo {script} add {BASE} 2>&1", check=False)
    assert answer == f"registry: does not run: sudo {script} start\n1"
    assert "registry: started (process" in guest.run(f"sudo {script} start", 120)
    assert guest.run(f"sudo {script} add {BASE}", 120) == "registry: 127.0.0.1:5000/busybox:1\n"
    answer = guest.run(f"sudo {script} add localhost/absent:1 2>&1", check=False)
    assert "registry: localhost/absent:1 could not be added: ctr: " in answer
    # Only the registry has it under this name.
    assert not stored(guest, "127.0.0.1:5000/busybox:1")
    guest.run("sudo ctr images pull --plain-http 127.0.0.1:5000/busybox:1 >/dev/null 2>&1", 120)
    assert stored(guest, "127.0.0.1:5000/busybox:1")
    guest.run("sudo ctr images rm --sync 127.0.0.1:5000/busybox:1")
    assert "registry: stopped" in guest.run(f"sudo {script} stop")


def pushed_and_pulled(guest: Guest) -> None:
    """push=true to a real registry that asks for a password and speaks plain http."""
    registry.start(guest)
    name = "localhost:5000/app:1"
    assert "log in by: sudo buildah login localhost:5000" in build(guest, f"-t {name} push=true app", 1)

    auth = '{"auths": {"localhost:5000": {"auth": "bWU6aHV0"}, "hut.lan:5000": {"auth": "bWU6aHV0"}}}'
    guest.run(f"mkdir -p .docker && echo '{auth}' > .docker/config.json")
    said = build(guest, f"-t {name} push=true app")
    digest = stored(guest, name)
    assert f"ctr-build: pushed {name}@{digest}" in said

    # Elsewhere than on the loopback, plain http has to be wanted.
    guest.run("echo 127.0.0.1 hut.lan | sudo tee -a /etc/hosts >/dev/null")
    other = "hut.lan:5000/app:1"
    assert "hut.lan:5000 speaks plain http" in build(guest, f"-t {other} push=true app", 1)
    guest.run("sudo mkdir -p /etc/containers/registries.conf.d")
    setting = r"[[registry]]\nlocation = \"hut.lan:5000\"\ninsecure = true\n"
    guest.run(f'printf "{setting}" | sudo tee /etc/containers/registries.conf.d/own.conf >/dev/null')
    assert f"ctr-build: pushed {other}@{digest}" in build(guest, f"-t {other} push=true app")

    guest.run(f"sudo ctr images rm --sync {name} {other}")
    back = "127.0.0.1:5000/app:1"
    guest.run(f"sudo ctr images pull --plain-http --user me:hut {back} >/dev/null 2>&1", 120)
    assert stored(guest, back) == digest
    assert run(guest, back) == "hello two, made\n"


def test_without_the_fragment_and_noembed(
    plain_kernel: Path, image: Settings, disc: Disk, tmp_path: Path
) -> None:
    """Building needs neither; what gets lost is said.  And file systems overlay cannot lie on."""
    with builder(image, disc, tmp_path, "", kernel=plain_kernel) as guest:
        guest.run("sudo ctr images import /mnt/sr0/busybox.tar", 120)
        said = build(guest)
        assert "keep no security.* attributes (EXT4_FS_SECURITY): capabilities" in said
        assert run(guest, APP, "--no-pivot") == "hello one, made\n"

        # Images made by other tools may lack what buildah goes by: it is told, and so is a way.
        guest.run("sudo ctr images import /mnt/sr0/bare.tar", 120)
        said = build(guest, "-t bare --build-arg BASE=bare app", 125)
        assert "instead of FROM docker.io/library/bare:latest write FROM scratch and COPY --from=" in said
        build(guest, "-t bare -f app/Copied app")
        assert run(guest, "localhost/bare:latest", "--no-pivot") == "hello one, made\n"

        # ramfs has no attributes at all: by overlay, buildah would leave folders out, and go on.
        guest.run(f"sudo mount -t ramfs small {STORE}")
        said = build(guest, "-t ram app", 1, sudo="sudo STORAGE_DRIVER=overlay")
        assert "ctr-build: the image lacks the files told above" in said
        assert stored(guest, "localhost/ram:latest") == ""
        said = build(guest, "-t ram app")
        assert "overlayfs does not work on" in said
        assert run(guest, "localhost/ram:latest", "--no-pivot") == "hello one, made\n"
        guest.run(f"sudo umount {STORE}")
