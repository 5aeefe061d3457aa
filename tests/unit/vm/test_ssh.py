# SPDX-License-Identifier: MIT
"""What is made on this machine for a guest that is reached by SSH; tests/vm/test_run.py reaches one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.fetch import guest_root
from tasks.util.errors import UserError
from tasks.vm import ssh
from tasks.vm.machine import LOOPBACK, free_port
from tests.support.settings import both, with_values

CONFIG = "CONFIG_VIRTIO_NET=m\nCONFIG_VIRTIO_CONSOLE=y\n"


@pytest.fixture
def settings(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A profile whose kernel can reach a network."""
    made = with_values(make_settings(), fragments=())
    (made.paths.kernel / "modules").mkdir(parents=True)
    (made.paths.kernel / "release").write_text("6.1.0\n")
    (made.paths.kernel / "config").write_text(CONFIG)
    (made.paths.kernel / "modules/virtio_net.ko.gz").touch()
    monkeypatch.setattr(guest_root, "unpacked", lambda cache, arch: cache / arch)
    return made


def test_the_keys_go_with_the_guest(settings: Settings) -> None:
    with ssh.opened(*both(settings)) as remote:
        assert remote.folder == settings.paths.output / "ssh"
        assert remote.root == settings.paths.cache / "x86_64"
        assert remote.command == f"ssh -F {remote.folder}/config guest"
        assert remote.folder.stat().st_mode & 0o777 == 0o700
        assert (remote.folder / "key").stat().st_mode & 0o777 == 0o600
        first = (remote.folder / "key.pub").read_text()
        assert first.startswith("ssh-ed25519 ")
    assert not remote.folder.exists()
    with ssh.opened(*both(settings)) as remote:
        assert (remote.folder / "key.pub").read_text() != first


def test_they_go_if_the_guest_fails(settings: Settings) -> None:
    with pytest.raises(RuntimeError), ssh.opened(*both(settings)) as remote:
        raise RuntimeError
    assert not remote.folder.exists()


def test_what_a_killed_run_has_left_is_replaced(settings: Settings) -> None:
    left = settings.paths.output / "ssh"
    left.mkdir()
    for name in ("config", "key", "key.pub"):
        (left / name).write_text("old")
    with ssh.opened(*both(settings)) as remote:
        assert sorted(path.name for path in left.iterdir()) == ["key", "key.pub"]
        assert (remote.folder / "key.pub").read_text() != "old"


def test_two_guests_of_a_profile_do_not_share_keys(settings: Settings) -> None:
    with ssh.opened(*both(settings)) as first:
        with pytest.raises(UserError, match="out/ssh belongs to another guest that runs"):
            ExitStack().enter_context(ssh.opened(*both(settings)))
        assert (first.folder / "key").is_file()


@pytest.mark.parametrize(
    ("config", "said", "hint"),
    [
        ("CONFIG_VIRTIO_CONSOLE=y\n", "--ssh: the kernel has no CONFIG_VIRTIO_NET", "add the fragment qemu"),
        ("CONFIG_VIRTIO_NET=y\n", "--ssh: the kernel has no CONFIG_VIRTIO_CONSOLE", "add the fragment qemu"),
        (
            CONFIG.replace("=y", "=m"),
            "--ssh: nothing that is loaded at boot has the module virtio_console",
            "add the fragment qemu",
        ),
    ],
)
def test_what_the_kernel_lacks_is_named_before_the_boot(
    config: str, said: str, hint: str, settings: Settings
) -> None:
    (settings.paths.kernel / "config").write_text(config)
    with pytest.raises(UserError) as caught:
        ExitStack().enter_context(ssh.opened(*both(settings)))
    assert (caught.value.message, caught.value.hint) == (said, hint)
    assert not (settings.paths.output / "ssh").exists()


def test_a_port_that_is_in_use_is_left_alone(settings: Settings) -> None:
    """Another program's, and one that the guest gets for something else."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, free_port(ssh.FIRST_PORT)))
        taken.listen()
        used = int(taken.getsockname()[1])
        with ssh.opened(*both(settings)) as remote:
            first = remote.port
        assert first != used
        with ssh.opened(*both(settings), taken={first: 80}) as remote:
            assert remote.port not in (used, first)


def test_a_folder_that_ssh_cannot_name() -> None:
    for name in ("${HOME}", 'a"b', "a\\b"):
        with pytest.raises(UserError, match="--ssh: ssh can read nothing in /"):
            ssh.config(Path("/") / name, 2222, "tc")


@pytest.mark.parametrize(("said", "is_one"), [(b"SSH-2.0-dropbear_1\r\n", True), (b"HTTP/1.1 400", False)])
def test_only_an_ssh_server_answers(said: bytes, *, is_one: bool) -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        port = int(server.getsockname()[1])

        def serve() -> None:
            with server.accept()[0] as one:
                one.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ssh.answers(port) is is_one
        thread.join()
    assert not ssh.answers(port), "nothing listens any more"
