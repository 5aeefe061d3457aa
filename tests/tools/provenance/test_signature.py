# SPDX-License-Identifier: MIT
"""Signatures by the real ssh-keygen and minisign: only the right key's is accepted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.provenance import signature
from tasks.util.errors import UserError

DATA = b'{"a": 1}\n'


def ssh_key(path: Path, passphrase: str = "") -> Path:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "somebody", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path


def minisign_key(path: Path, *, password: str | None = None) -> Path:
    argv = ["minisign", "-G", "-f", "-p", f"{path}.pub", "-s", str(path)]
    argv += ["-W"] if password is None else []
    typed = f"{password}\n{password}\n" if password is not None else ""
    subprocess.run(argv, check=True, capture_output=True, input=typed, text=True)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.iso.manifest.json"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(("make", "ending"), [(ssh_key, ".sig"), (minisign_key, ".minisig")])
def test_a_signature_is_accepted_from_its_own_key_alone(
    file: Path, tmp_path: Path, make: Callable[[Path], Path], ending: str
) -> None:
    key, other = make(tmp_path / "mine"), make(tmp_path / "other")
    signed = signature.sign(file, key)
    assert signed.name == f"{file.name}{ending}"
    assert signature.find(file) == signed
    public = key.with_name("mine.pub")
    assert "mine.pub" in signature.verify(DATA, file.name, signed, public)
    with pytest.raises(UserError, match=r"is not valid for other\.pub"):
        signature.verify(DATA, file.name, signed, other.with_name("other.pub"))
    with pytest.raises(UserError, match=r"is not valid for mine\.pub"):
        signature.verify(DATA.replace(b"1", b"2"), file.name, signed, public)
    spoilt = signed.read_bytes()
    signed.write_bytes(spoilt[: len(spoilt) // 2])
    with pytest.raises(UserError, match=r"is not valid for mine\.pub"):
        signature.verify(DATA, file.name, signed, public)


def test_a_key_that_is_asked_for_makes_a_signature_required(file: Path, tmp_path: Path) -> None:
    key = ssh_key(tmp_path / "mine")
    with pytest.raises(UserError, match="has no signature"):
        signature.verify(DATA, file.name, signature.find(file), key.with_name("mine.pub"))
    mini = minisign_key(tmp_path / "mini")
    signed = signature.sign(file, mini)
    with pytest.raises(UserError, match=r"has no signature .*\.sig beside it"):
        signature.verify(DATA, file.name, signed, key.with_name("mine.pub"))


def test_signing_with_the_other_kind_of_key_leaves_no_stale_signature(file: Path, tmp_path: Path) -> None:
    signature.sign(file, ssh_key(tmp_path / "mine"))
    signed = signature.sign(file, minisign_key(tmp_path / "mini"))
    assert signature.find(file) == signed


def test_allowed_signers_say_who_signed_and_for_what(file: Path, tmp_path: Path) -> None:
    key = ssh_key(tmp_path / "mine")
    signed = signature.sign(file, key)
    public = key.with_name("mine.pub").read_text()
    signers = tmp_path / "signers"
    signers.write_text(f"# ours\nann@example.org {public}")
    assert signature.verify(DATA, file.name, signed, signers) == "ann@example.org"
    signers.write_text(f'ann@example.org namespaces="git" {public}')
    with pytest.raises(UserError, match="is not valid"):
        signature.verify(DATA, file.name, signed, signers)


def test_every_entry_of_a_key_is_tried(file: Path, tmp_path: Path) -> None:
    """One may be for git alone, and one of a time that is over."""
    signed = signature.sign(file, ssh_key(tmp_path / "mine"))
    public = (tmp_path / "mine.pub").read_text()
    other = ssh_key(tmp_path / "other").with_name("other.pub").read_text()
    refused = f'ann@git namespaces="git" {public}old@example.org valid-before="20200101" {public}'
    signers = tmp_path / "signers"
    signers.write_text(f'eve@example.org {other}{refused}ann@example.org namespaces="git,tcbuild" {public}')
    assert signature.verify(DATA, file.name, signed, signers) == "ann@example.org"
    signers.write_text(refused)
    with pytest.raises(UserError, match="is not valid for signers"):
        signature.verify(DATA, file.name, signed, signers)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_of_several_public_keys(file: Path, tmp_path: Path, line_end: str) -> None:
    """With comments and blank lines, as people keep them, and from any system."""
    signed = signature.sign(file, ssh_key(tmp_path / "mine"))
    keys = [
        ssh_key(tmp_path / name).with_name(f"{name}.pub").read_text().strip() for name in ("other", "third")
    ]
    public = (tmp_path / "mine.pub").read_text().strip()
    both = tmp_path / "keys"
    for lines in (
        [keys[0], public],
        ["# ours", "", public, keys[0]],
        ["", f"ann@example.org {keys[0]}", public],
    ):
        both.write_bytes("".join(line + line_end for line in lines).encode())
        assert signature.verify(DATA, file.name, signed, both) == "SSH key keys"
    both.write_text("\n".join(keys))
    with pytest.raises(UserError, match="is not valid for keys"):
        signature.verify(DATA, file.name, signed, both)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_minisign_key_with_any_line_end(file: Path, tmp_path: Path, line_end: str) -> None:
    key = minisign_key(tmp_path / "mine")
    signed = signature.sign(file, key)
    public = key.with_name("mine.pub")
    public.write_bytes(public.read_bytes().replace(b"\n", line_end.encode()))
    assert signature.verify(DATA, file.name, signed, public) == "minisign key mine.pub"


def test_what_is_no_file_is_no_key(file: Path, tmp_path: Path) -> None:
    signed = signature.sign(file, ssh_key(tmp_path / "mine"))
    for path, says in ((tmp_path, "is a folder"), (Path("/dev/null"), "is no regular file")):
        with pytest.raises(UserError, match=f"^{path} {says}"):
            signature.verify(DATA, file.name, signed, path)


def test_a_signature_made_for_something_else_is_refused(file: Path, tmp_path: Path) -> None:
    key = ssh_key(tmp_path / "mine")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "git", file], check=True)
    with pytest.raises(UserError, match="is not valid"):
        signature.verify(DATA, file.name, signature.find(file), key.with_name("mine.pub"))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("passphrase", "a key with a passphrase"),
        ("password", "the key may have a password"),
        ("readable", "other users can read it"),
        ("absent", "does not exist"),
        ("junk", "cannot sign with"),
        ("minisign-public", "is a public key"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line_and_leaves_nothing(
    file: Path, tmp_path: Path, kind: str, says: str
) -> None:
    key = tmp_path / "key"
    if kind == "passphrase":
        ssh_key(key, "very secret")
    elif kind == "password":
        minisign_key(key, password="very secret")
    elif kind == "readable":
        ssh_key(key).chmod(0o644)
    elif kind == "junk":
        key.write_text("no key\n")
        key.chmod(0o600)
    elif kind == "minisign-public":
        key = minisign_key(key).with_name("key.pub")
    with pytest.raises(UserError) as caught:
        signature.sign(file, key)
    assert says in str(caught.value)
    assert "\n" not in caught.value.message
    assert not caught.value.detail
    assert {path.name for path in tmp_path.iterdir()} <= {file.name, "key", "key.pub"}


@pytest.mark.parametrize("content", ["", "words\n", "-----BEGIN OPENSSH PRIVATE KEY-----\na b c\n"])
def test_what_is_no_public_key_is_refused(file: Path, tmp_path: Path, content: str) -> None:
    signed = signature.sign(file, ssh_key(tmp_path / "mine"))
    public = tmp_path / "public"
    public.write_text(content)
    with pytest.raises(UserError, match="is no public key"):
        signature.verify(DATA, file.name, signed, public)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    while not socket.exists():
        assert process.poll() is None
    yield
    process.terminate()
    process.wait()


def test_a_key_with_a_passphrase_signs_through_the_agent(file: Path, tmp_path: Path, agent: None) -> None:
    key = ssh_key(tmp_path / "mine", "very secret")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho very secret\n")
    ask.chmod(0o755)
    asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", key], env=asking, check=True)
    public = key.with_name("mine.pub")
    key.unlink()
    signed = signature.sign(file, public)
    assert signature.verify(DATA, file.name, signed, public)
