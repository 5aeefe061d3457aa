# SPDX-License-Identifier: MIT
"""Compiler caches: hits survive another folder, and come from a store on the network."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.config.compiler import Compiler
from tasks.config.settings import Settings
from tasks.toolchain import prepare
from tasks.util.files import remove_tree
from tests.support import farm
from tests.support.settings import with_values

Make = Callable[..., Settings]
COUNT = 12  # C files; .incbin is what ccache never keeps
NGINX = """\
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/store;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""


@contextlib.contextmanager
def server(argv: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends; it listens on the loopback's `port` when it begins."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        assert process.poll() is None, f"{argv[0]} ended"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    try:
        farm.until(listens, argv[0])
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    port = farm.free_port()
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    with server(argv, port):
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """A web server that takes PUT, as ngx_http_dav_module does."""
    port = farm.free_port()
    (folder / "store").mkdir()
    (folder / "store").chmod(0o777)  # its workers run as another user
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    with server(["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port):
        # ccache gives up a server that does not answer within 0.1 s, as on a busy machine.
        yield f"http://127.0.0.1:{port}/|connect-timeout=20000"


@pytest.fixture
def settings(make_settings: Make) -> Settings:
    chosen = make_settings()
    farm.write_project(chosen.paths.output, COUNT)
    return chosen


def elsewhere(settings: Settings, output: Path) -> Settings:
    """Return the settings of another checkout, deeper down, that shares the cache."""
    other = with_values(settings, output=output)
    farm.write_project(other.paths.output, COUNT)
    return other


@pytest.mark.parametrize("name", ["ccache", "sccache"])
def test_hits_survive_another_folder(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    prepare.install_programs(name, offline=False)
    settings = farm.with_compiler(settings, Compiler(name))  # type: ignore[arg-type]
    farm.build(settings)
    first = capfd.readouterr().out.splitlines()[-1]
    assert first.startswith(f"{name}: 0 hits, "), first
    other = elsewhere(settings, tmp_path / "a/checkout/of another/name".replace(" ", "-"))
    farm.build(other)
    second = capfd.readouterr().out.splitlines()[-1]
    assert int(second.split()[1]) >= COUNT, second
    ours = farm.built_here(settings, tmp_path / "here")
    assert farm.objects(settings) == farm.objects(other) == ours
    # make finds the headers again, by the paths of this folder or relative to it.
    depends = (other.paths.build / ".f0.c.o.d").read_text()
    header = next(word for word in depends.split() if word.endswith("all.h"))
    assert (other.paths.build / header).resolve() == other.paths.linux / "include/all.h"
    assert "/out/" not in depends


@pytest.mark.parametrize("store", [redis, nginx], ids=["redis", "http"])
def test_an_empty_cache_is_filled_from_the_remote_storage(
    settings: Settings,
    open_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    store: Callable[[Path], contextlib.AbstractContextManager[str]],
) -> None:
    with store(open_folder) as url:
        settings = farm.with_compiler(settings, Compiler(remote_storage=url))
        farm.build(settings)
        ours = farm.objects(settings)
        remove_tree(settings.paths.cache / "ccache")
        other = elsewhere(settings, tmp_path / "another")
        capfd.readouterr()
        farm.build(other)
        line = capfd.readouterr().out.splitlines()[-1]
    assert farm.objects(other) == ours
    hits, remote = int(line.split()[1]), int(line.split("(")[1].split()[0])
    assert hits >= COUNT and remote >= COUNT, line

    # The store is gone now: a line of warning, and a build all the same.
    remove_tree(settings.paths.cache / "ccache")
    farm.build(other)
    said = capfd.readouterr().out.splitlines()
    assert "its remote storage at 127.0.0.1:" in said[0] and said[0].startswith("warning: ccache: ")
    assert said[-1].startswith("ccache: 0 hits, ")
    assert farm.objects(other) == ours
