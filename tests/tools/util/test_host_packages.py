# SPDX-License-Identifier: MIT
"""Packages that a user without root gets in the cache folder, by the real apt."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.util import host, host_packages
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.process import require_tool, run
from tests.support.repository import Repository, serving

GREET = b"""#!/bin/sh
echo "$LD_LIBRARY_PATH" "$@"
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TCBUILD_ROOTLESS", "1")
    with serving(tmp_path / "apt", monkeypatch) as made:
        made.add("greeter", "1", {"usr/bin/tcbuild-greet": GREET}, depends="libgreet, dpkg")
        made.add("libgreet", "1", {"usr/lib/x86_64-linux-gnu/libgreet.so.1": b"library"})
        made.add("ca-certificates", "9:1", {f"usr/share/ca-certificates/{n}.crt": n.encode() for n in "ba"})
        made.publish()
        yield made


def test_programs_run_from_the_cache_folder_with_their_libraries(repository: Repository) -> None:
    with pytest.raises(UserError, match="tcbuild-greet is not installed"):
        require_tool("tcbuild-greet")
    host_packages.install_packages(["greeter"])
    added = host.added_folder()
    assert require_tool("tcbuild-greet").startswith(f"{added}/")
    libraries, *words = run(["tcbuild-greet", "you", "a b"]).stdout.split(maxsplit=1)
    assert words == ["you a b\n"]
    assert [Path(os.path.normpath(folder)) for folder in libraries.split(":")] == [
        added / "usr/lib/x86_64-linux-gnu",
        added / "usr/lib",
    ]
    assert host.missing_packages({"tcbuild-greet": "greeter"}, os.environ["PATH"]) == ["greeter"]
    assert "LD_LIBRARY_PATH" not in run(["env"]).stdout, "only that program sees its libraries"


def test_packages_of_an_earlier_call_stay_and_nothing_else_is_left(repository: Repository) -> None:
    host_packages.install_packages(["greeter"])
    host_packages.install_packages(["ca-certificates"])
    added = host.added_folder()
    assert (added / "packages").read_text() == "ca-certificates\ngreeter\n"
    assert (added / host_packages.CERTIFICATES).read_bytes() == b"ab"
    assert require_tool("tcbuild-greet")
    assert {path.name for path in added.iterdir()} == {"etc", "packages", "start", "usr"}
    assert [path.name for path in added.parent.iterdir()] == [added.name]


def test_a_package_that_is_not_there_leaves_what_was_there(repository: Repository) -> None:
    host_packages.install_packages(["greeter"])
    with pytest.raises(UserError) as caught:
        host_packages.install_packages(["nothing-of-that-name"])
    assert "Unable to locate package nothing-of-that-name" in str(caught.value)
    assert require_tool("tcbuild-greet")
    assert [path.name for path in host.added_folder().parent.iterdir()] == [host.added_folder().name]


def test_without_root_both_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("TCBUILD_ROOTLESS", raising=False)
    with pytest.raises(UserError, match="missing: make patch") as caught:
        host_packages.install_packages(["make", "patch"])
    assert "TCBUILD_ROOTLESS=1 ./doit" in caught.value.hint
    assert caught.value.hint.endswith("apt-get install --no-install-recommends make patch")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes the lock of dpkg")
def test_another_apt_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """apt has no sources here, and installs what the machine has."""
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(f"""
Dir::State::Lists "{tmp_path}/lists";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "/dev/null";
""")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(CHECKOUT, "artifacts", tmp_path)
    version = run(["dpkg-query", "--show", "--showformat=${Version}", "dpkg"]).stdout
    with Path("/var/lib/dpkg/lock-frontend").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        other = threading.Timer(3, fcntl.lockf, (lock, fcntl.LOCK_UN))
        other.start()
        try:
            host_packages.install_packages([f"dpkg={version}"])
        finally:
            other.join()
    assert "Waiting for cache lock" in (tmp_path / "logs/setup.log").read_text()
