# SPDX-License-Identifier: MIT
"""Container images made of packages, read by skopeo: programs static and dynamic, and what is refused."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.image import image_build
from tasks.origins.lock import Lock, LockedNeeds
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support import images, secrets
from tests.support.images import shared
from tests.support.settings import record_lock, with_values
from tests.support.workshop import INFO, LD, Workshop, make_workshop, origin

BUSYBOX = Path("/bin/busybox")  # static, by host.toml
NAME = "images/tool"
TABLE = '[image]\nname = "docker.io/library/tool:1"\n'


@pytest.fixture
def workshop(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workshop:
    monkeypatch.setattr(CHECKOUT, "images", tmp_path / "images")
    return make_workshop(make_settings, tmp_path, monkeypatch)


def recipe(workshop: Workshop, table: str, *packages: str, needs: tuple[str, ...] = ()) -> None:
    """Write the recipe images/tool, and the lock: what it names, and what that needs."""
    top = workshop.folder / NAME
    (top / "files/etc").mkdir(parents=True, exist_ok=True)
    (top / "files/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (top / "recipe.toml").write_text(INFO + TABLE + table + "\n" + (origin(*packages) if packages else ""))
    needed = LockedNeeds(NAME, tuple(sorted(packages)), needs)
    record_lock(workshop.settings, Lock(workshop.packages, needs=(needed,)), {NAME: packages})


def built(workshop: Workshop) -> Path:
    image_build.build(workshop.settings, NAME)
    return workshop.settings.paths.container_image("tool")


def unpacked(archive: Path, folder: Path) -> dict[str, str]:
    """Return path -> mode, or the target of a link, as skopeo unpacks the only layer."""
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{archive}", f"dir:{folder}"], check=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    blob = folder / manifest["layers"][0]["digest"].removeprefix("sha256:")
    with tarfile.open(fileobj=io.BytesIO(blob.read_bytes()), mode="r:gz") as tar:
        return {one.name: one.linkname or stat.filemode(one.mode)[1:] for one in tar}


def test_an_image_of_a_static_program(workshop: Workshop, tmp_path: Path) -> None:
    workshop.package("busybox-static", {"bin/busybox": BUSYBOX.read_bytes(), "bin/ls": b"its own"})
    table = 'cmd = ["sh"]\napplets = "bin/busybox"\nfolder = [{ path = "tmp", mode = 0o1777 }]'
    recipe(workshop, table, "busybox-static")
    archive = built(workshop)
    found = unpacked(archive, tmp_path / "dir")
    assert (found["bin/busybox"], found["bin/sh"], found["bin/ls"]) == (
        *("rwxr-xr-x", "/bin/busybox"),
        "rw-r--r--",
    )
    assert (found["tmp"], found["etc/passwd"]) == ("rwxrwxrwt", "rw-r--r--")
    applets = subprocess.run([BUSYBOX, "--list-full"], capture_output=True, text=True, check=True).stdout
    linked = {path for path, target in found.items() if target == "/bin/busybox"}
    assert linked == {*applets.split()} - {"bin/ls", "bin/busybox"}
    told = subprocess.run(
        ["skopeo", "inspect", "--config", f"oci-archive:{archive}"], capture_output=True, check=True
    )
    config = json.loads(told.stdout)
    assert (config["config"]["Cmd"], config["architecture"]) == (["sh"], "amd64")
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "1.2-3"
    # Again, elsewhere: the same bytes.
    first = archive.read_bytes()
    workshop.settings = with_values(workshop.settings, output=tmp_path / "elsewhere")
    workshop.settings.paths.output.mkdir()
    recipe(workshop, table, "busybox-static")
    assert built(workshop).read_bytes() == first


def test_an_image_holds_the_libraries_that_the_base_has(workshop: Workshop, tmp_path: Path) -> None:
    """A container has no base; of a package for a library nothing else is taken."""
    workshop.package("tool", {"usr/bin/tool": shared("libc.so.6", interpreter=LD)})
    libc = {"usr/lib/libc.so.6": shared(soname="libc.so.6"), LD[1:]: shared(), "usr/share/doc/x": b"text"}
    workshop.package("libc6", libc)
    recipe(workshop, 'entrypoint = ["/usr/bin/tool"]', "tool", needs=("libc6",))
    found = unpacked(built(workshop), tmp_path / "dir")
    assert {"usr/lib/libc.so.6", LD[1:], "usr/bin/tool"} <= found.keys()
    assert "usr/share/doc/x" not in found
    recipe(workshop, 'entrypoint = ["/usr/bin/tool"]', "tool")
    with pytest.raises(UserError, match=r"^image tool: .*usr/bin/tool needs .*, which is neither"):
        built(workshop)


@pytest.mark.parametrize(
    ("table", "files", "says"),
    [
        ('cmd = ["run"]', {"bin/tool": images.elf()}, "image tool: a container could not start 'run'"),
        ('entrypoint = ["/etc/passwd"]', {}, "image tool: a container could not start '/etc/passwd'"),
        (
            'applets = "bin/busybox"',
            {"bin/tool": images.elf()},
            "applets: there is no /bin/busybox",
        ),
        ("", {"etc/key": secrets.pem("RSA ").encode()}, "image tool holds what looks like a secret: etc/key"),
        ("", {"etc/passwd": b"of the package"}, ""),
    ],
)
def test_what_is_refused(workshop: Workshop, table: str, files: dict[str, bytes], says: str) -> None:
    workshop.package("tool", files or {"usr/share/x": b"x"})
    recipe(workshop, table, "tool")
    if not says:  # the recipe's own files replace those of packages, as in extensions
        assert built(workshop).is_file()
        return
    with pytest.raises(UserError) as caught:
        built(workshop)
    assert says in caught.value.message
    assert not workshop.settings.paths.container_image("tool").exists()


def test_an_empty_image(workshop: Workshop) -> None:
    recipe(workshop, "")
    (workshop.folder / NAME / "files/etc/passwd").unlink()
    with pytest.raises(UserError, match="image tool would be empty"):
        built(workshop)
