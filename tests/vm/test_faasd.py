# SPDX-License-Identifier: MIT
"""faasd with its real programs and images: it starts, also after a power cut, and runs what fn-build builds.

faasd's programs are releases, on no package registry.  This test runs where the variable
TCBUILD_FAASD names a folder that has them as GitHub does (openfaas/faasd/releases/download/…),
and the archives of its services' images in images/; they are served on the loopback address to
the recipe as it is.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import recipe
from tasks.config.settings import Settings
from tasks.extensions import build as extensions_build
from tasks.fetch import recipe_inputs
from tasks.origins import http
from tasks.util.checkout import CHECKOUT
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk
from tests.support.mirror import Mirror, Page
from tests.vm.contract import carry, empty_disk, machine, make_disc, own_root

VARIABLE = "TCBUILD_FAASD"
SERVICE = "/usr/local/etc/init.d/faasd"
GATEWAY = "http://127.0.0.1:8080"
GATEWAY_IMAGE = "ghcr.io/openfaas/gateway:0.27.5"
HOSTS = ("https://github.com", "https://raw.githubusercontent.com")
STORES = ("containerd", "containers", "faasd", "faasd-provider")
LIMIT = 3000.0


@pytest.fixture(scope="module")
def releases() -> Path:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no folder with faasd's releases")
    return Path(os.environ[VARIABLE])


@pytest.fixture(scope="module")
def image(releases: Path) -> Settings:
    return own_root()


def build_faasd(image: Settings, releases: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Lock, fetch and build the recipe, the releases served under their names; return where it is."""
    extensions = folder / "extensions"
    shutil.copytree(CHECKOUT.root / "extensions", extensions, symlinks=True)
    with Mirror() as mirror:
        for path in (releases / "openfaas").rglob("*"):
            if path.is_file():
                mirror.pages[str(path.relative_to(releases))] = Page(path.read_bytes())
        text = (extensions / "faasd/recipe.toml").read_text()
        for host in HOSTS:
            assert host in text
            text = text.replace(f"{host}/", f"{mirror.url}/")
        (extensions / "faasd/recipe.toml").write_text(text)
        monkeypatch.setattr(CHECKOUT, "extensions", extensions)
        monkeypatch.setattr(http, "DELAYS", (0.0,))
        monkeypatch.setenv("NO_PROXY", "*")
        paths = replace(image.paths, output=folder / "out")
        shutil.copytree(image.paths.tcz, paths.tcz)
        paths.kernel.mkdir()
        for name in ("rootfs64.gz", "corepure64.gz", "kernel/release"):
            shutil.copy(image.paths.output / name, paths.output / name)
        settings = replace(image, paths=paths)
        recipe_inputs.lock(settings, "faasd")
        recipe_inputs.fetch(settings, "faasd")
        extensions_build.build(settings, "faasd")
    return settings


@pytest.fixture(scope="module")
def disc(image: Settings, releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A CD with faasd, a builder, and the images of faasd's services."""
    folder = tmp_path_factory.mktemp("disc")
    tree = folder / "tree"
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = build_faasd(image, releases, folder, monkeypatch)
    carry(made, tree, ("buildah", "faasd"))
    shutil.copytree(releases / "images", tree / "images")
    return make_disc(folder / "disc.iso", tree)


@contextmanager
def functions(image: Settings, disc: Disk, disk: Disk, log: Path) -> Iterator[Guest]:
    """A guest without network that has all of containerd's and faasd's on its disk; it is not powered off."""
    what = machine(image, "nodhcp cde noembed", disc, disk, memory=2048, cpus=2)
    with Guest(what, log, limit=LIMIT) as guest:
        guest.login()
        guest.run("sudo mkdir -p /mnt/vda && sudo mount -t ext3 /dev/vda /mnt/vda")
        for name in STORES:
            guest.run(f"sudo mkdir -p /mnt/vda/{name} /var/lib/{name}")
            guest.run(f"sudo mount --bind /mnt/vda/{name} /var/lib/{name}")
        guest.run("sudo mkdir -p /var/lib/faasd/images")
        guest.run("sudo sh -c 'cp -n /mnt/sr0/images/*.tar /var/lib/faasd/images/'", 120)
        yield guest


def test_the_images_made_here_are_those_that_faasd_starts(releases: Path) -> None:
    compose = (releases / "openfaas/faasd/0.18.8/docker-compose.yaml").read_text()
    for name in ("nats-streaming", "prometheus"):
        made = recipe.load(f"images/{name}").image
        assert made
        assert f"    image: {made.name}\n" in compose


def asked(guest: Guest, name: str, text: str) -> str:
    """Return what a function answers to a request with this body."""
    return guest.run(f"timeout 100 wget -q -O - --post-data '{text}' {GATEWAY}/function/{name}", 120)


def test_from_a_folder_to_a_function_that_answers(image: Settings, disc: Disk, tmp_path: Path) -> None:
    disk = empty_disk(tmp_path / "disk.img", 2048)
    with functions(image, disc, disk, tmp_path / "first.log") as guest:
        said = guest.run(f"sudo {SERVICE} start 2>&1", 600)
        assert "faasd: started (process" in said
        assert "Prometheus" in guest.run("timeout 20 wget -q -O - http://127.0.0.1:9090/-/healthy", 30)
        secret = guest.run("sudo cat /var/lib/faasd/secrets/basic-auth-password")
        assert len(secret) == 40
        said = guest.run("sudo fn-build --new hello 2>&1", 300)
        assert "fn-build: built by ctr-build in" in said
        assert asked(guest, "hello", "you") == "hello, you\n"
        guest.run("sed -i s/hello/goodbye/ hello/handler")
        print(guest.run("sudo fn-build hello 2>&1", 300))
        assert asked(guest, "hello", "you") == "goodbye, you\n"
        # Logs of services and functions, which upstream's programs send to journald.
        guest.run("sudo grep -q 'Listening' /var/log/faasd/openfaas.queue-worker.log")
        guest.run("sudo test -s /var/log/faasd/openfaas-fn.hello.log")
        guest.run("sed -i s/FROM/FORM/ hello/Dockerfile")
        said = guest.run("sudo fn-build hello 2>&1", 300, check=False)
        assert "fn-build: the build failed; the function is as before" in said
        assert asked(guest, "hello", "you") == "goodbye, you\n"
        assert "faasd: started (process" in guest.run(f"sudo {SERVICE} restart 2>&1", 600)
        assert asked(guest, "hello", "you") == "goodbye, you\n"
        guest.run(f"sudo {SERVICE} stop 2>&1", 240)
        guest.send(f"sudo {SERVICE} start &")
        wait = random.uniform(1, 20)
        print(f"the power goes after {wait:.1f} s")
        time.sleep(wait)
        guest.cut_power()
    with functions(image, disc, disk, tmp_path / "second.log") as guest:
        said = guest.run(f"sudo {SERVICE} start 2>&1", 600)
        assert "faasd: started (process" in said
        # containerd has the function without a process: the start waits until it answers.
        assert "faasd: functions that answer: 1\n" in said
        assert asked(guest, "hello", "again") == "goodbye, again\n"
        guest.run(
            f"sudo rm /var/lib/faasd/images/gateway.tar && sudo ctr -n openfaas images rm {GATEWAY_IMAGE}"
        )
        guest.run(f"sudo {SERVICE} stop 2>&1", 240)
        said = guest.run(f"sudo {SERVICE} start 2>&1", 240, check=False)
        assert f"faasd: no image {GATEWAY_IMAGE}, and no network to pull from: put" in said
        assert said.splitlines()[-1] == "1"
