# SPDX-License-Identifier: MIT
"""What goes into an image, a log or a published text is searched for secrets, and a finding refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.checks import secrets
from tasks.formats import cpio
from tasks.util import secret_patterns, toml_schema
from tasks.util.errors import UserError
from tests.support import oci
from tests.support.secrets import pem, token, word

PEM = pem("")
ADDRESS = f"deb https://me:{word(12)}@host.example/debian"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if secret_patterns.SECRET_VARIABLE.search(name):
            monkeypatch.delenv(name)


def test_values_of_this_machine_are_found_but_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "correct-horse-battery")
    (tmp_path / "conf").write_text("x = correct-horse-battery\n")
    with pytest.raises(UserError, match="the value of this machine's variable DEPLOY_TOKEN") as caught:
        secrets.refuse_in_files("extension tool", [("etc/conf", tmp_path / "conf")])
    assert "extension tool holds what looks like a secret: etc/conf: " in caught.value.message
    assert "correct-horse" not in str(caught.value)
    assert "[[allow]]" in caught.value.hint


def test_members_are_searched(tmp_path: Path) -> None:
    members = [cpio.regular("etc/a", b"a"), cpio.regular("etc/key", PEM.encode())]
    with pytest.raises(UserError, match=r"the base root holds .* etc/key: a private key \(PEM\), at byte 0"):
        secrets.refuse_in_members("the base root", members, tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_what_was_found_clean_is_looked_at_again_only_for_the_values_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tmp_path / "clean"
    members = [cpio.regular("etc/a", b"a 12345678")]
    seen: list[str] = []
    search = secret_patterns.Scanner.search

    def watched(
        scanner: secret_patterns.Scanner, path: str, data: bytes
    ) -> Iterator[secret_patterns.Finding]:
        if scanner.rules.pattern:
            seen.append(path)
        return search(scanner, path, data)

    monkeypatch.setattr(secret_patterns.Scanner, "search", watched)
    secrets.refuse_in_members("x", members, clean)
    secrets.refuse_in_members("x", [*members, cpio.regular("etc/b", b"b")], clean)
    assert seen == ["etc/a", "etc/b"]
    with pytest.raises(UserError, match="private key"):
        secrets.refuse_in_members("x", [cpio.regular("etc/a", PEM.encode())], clean)
    clean.write_text(clean.read_text().replace("\n", "x\n", 1))  # other rules
    seen.clear()
    secrets.refuse_in_members("x", members, clean)
    assert seen == ["etc/a"]
    monkeypatch.setenv("CI_JOB_TOKEN", "12345678")
    with pytest.raises(UserError, match="CI_JOB_TOKEN"):
        secrets.refuse_in_members("x", members, clean)
    assert "12345678" not in clean.read_text()


def test_several_are_listed(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"key{number:02}").write_text(PEM)
    files = [(path.name, path) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(UserError) as caught:
        secrets.refuse_in_files("mydata", files)
    assert caught.value.detail.splitlines()[1].startswith("  key01: a private key")
    assert caught.value.detail.splitlines()[-1] == "  and 2 more"


def allowing(monkeypatch: pytest.MonkeyPatch, **entry: str) -> None:
    monkeypatch.setattr(secrets, "allowed", lambda: (secrets.Allow(**entry),))


@pytest.mark.parametrize(
    "where, path, passes",
    [("mydata", "home/*", True), ("mydata", "etc/*", False), ("extension x", "home/*", False)],
)
def test_what_is_allowed_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, path: str, passes: bool
) -> None:
    (tmp_path / "id").write_text(pem("OPENSSH "))
    allowing(monkeypatch, where=where, path=path, reason="the key of this test")
    try:
        secrets.refuse_in_files("mydata", [("home/tc/.ssh/id", tmp_path / "id")])
    except UserError:
        assert not passes
    else:
        assert passes


def test_an_allowed_finding_has_a_reason() -> None:
    with pytest.raises(UserError, match="reason: expected some words"):
        toml_schema.build({"allow": [{"where": "x", "path": "y", "reason": " "}]}, secrets.Allowed, "s", "")


def test_private_files_would_be_for_all(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.touch(mode=0o644)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/open").touch(mode=0o644)
    secrets.refuse_private("mydata", tmp_path / "etc", reference)
    (tmp_path / "etc/closed").touch(mode=0o600)
    with pytest.raises(UserError, match=r"mydata holds .* closed: a file that not everybody may read"):
        secrets.refuse_private("mydata", tmp_path / "etc", reference)
    (tmp_path / "etc/closed").chmod(0o640)
    with pytest.raises(UserError, match="closed: a file that not everybody may read"):
        secrets.refuse_private("mydata", tmp_path / "etc", reference)
    (tmp_path / "etc/closed").chmod(0o604)
    secrets.refuse_private("mydata", tmp_path / "etc", reference)
    (tmp_path / "etc/closed").chmod(0o600)
    for mode in (0o600, 0o640):  # as a umask of 077 or 027 makes all of a checkout
        reference.chmod(mode)
        secrets.refuse_private("mydata", tmp_path / "etc", reference)


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_a_file_in_a_private_folder_is_private(tmp_path: Path, mode: int) -> None:
    reference = tmp_path / "reference"
    reference.touch(mode=0o644)
    (tmp_path / "top/keys/all").mkdir(parents=True)
    (tmp_path / "top/keys/all/id").touch(mode=0o644)
    secrets.refuse_private("mydata", tmp_path / "top", reference)
    (tmp_path / "top/keys").chmod(mode)
    with pytest.raises(UserError, match="keys/all/id: a file that not everybody may read here"):
        secrets.refuse_private("mydata", tmp_path / "top", reference)


def test_names_and_targets_of_links_are_searched(tmp_path: Path) -> None:
    name = token()
    (tmp_path / "file").write_text("nothing")
    (tmp_path / "link").symlink_to(f"/run/{token()}")
    for path, file, said in (
        (f"etc/{name}/file", "file", "etc/***/file: a GitHub token, in its name"),
        (f"etc/x-{name}.conf", "file", "etc/x-***.conf: a GitHub token, in its name"),
        ("etc/link", "link", "etc/link: a GitHub token, at byte 5"),
    ):
        with pytest.raises(UserError) as caught:
            secrets.refuse_in_files("extension x", [(path, tmp_path / file)])
        assert caught.value.message.endswith(said)
        assert name not in str(caught.value)
    folder = cpio.directory(f"etc/{name}")
    with pytest.raises(UserError, match=r"etc/\*\*\*: a GitHub token, in its name"):
        secrets.refuse_in_members("the base root", [folder], tmp_path / "clean")


def test_a_secret_of_a_table_is_named_by_its_key() -> None:
    name = token()
    values = {
        "format": 1,
        "profile": {"users": [{"name": "tc", "note": "none"}], "codes": ["a", f"x={name}"]},
    }
    with pytest.raises(UserError) as caught:
        secrets.refuse_in_table("profile kiosk", values)
    assert caught.value.message == (
        "profile kiosk holds what looks like a secret: profile.codes.1: a GitHub token, at byte 2"
    )
    assert name not in str(caught.value)
    values["profile"] = {"users": [{"name": "tc", "note": PEM}]}
    with pytest.raises(UserError, match=r"profile\.users\.tc\.note: a private key \(PEM\), at byte 0"):
        secrets.refuse_in_table("profile kiosk", values)
    values["profile"] = {"codes": ["a", "b"], name: "key"}
    with pytest.raises(UserError, match=r"profile\.\*\*\*: a GitHub token, in its name"):
        secrets.refuse_in_table("profile kiosk", values)


def test_a_table_without_secrets_passes() -> None:
    half = token()
    secrets.refuse_in_table(
        "a manifest", {"a": half[:20], "b": half[20:], "c": [None, 1, True], "\ud800": "\udcff"}
    )


def test_texts_are_searched_before_they_are_written() -> None:
    secrets.refuse_in_text("the mirror", {"index.html": "nothing", "md5.db": b"\xff"})
    with pytest.raises(UserError, match=r"the mirror holds .* md5\.db: a GitHub token, at byte 1"):
        secrets.refuse_in_text("the mirror", {"index.html": "nothing", "md5.db": f" {token()}".encode()})


@pytest.mark.parametrize("where", ["logs/kernel.log", "origins/tool.toml", "lock.toml"])
def test_logs_and_locks_are_searched(tmp_path: Path, where: str) -> None:
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_text("nothing")
    secrets.refuse_in_records(tmp_path)
    (tmp_path / where).write_text(ADDRESS)
    with pytest.raises(UserError, match=f"{where}: a password in an address"):
        secrets.refuse_in_records(tmp_path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_layers_of_images_are_searched(tmp_path: Path, pack: type[bytes]) -> None:
    layer = oci.tar({"app/x": b"x", "root/.ssh/id": pem("OPENSSH ").encode()})
    (tmp_path / "image.tar").write_bytes(oci.tar(oci.oci_image([pack(layer)])))
    with pytest.raises(
        UserError, match=r"image app:1 holds .*blobs/sha256/[0-9a-f]{64}/root/\.ssh/id: a private key"
    ):
        secrets.refuse_in_image("image app:1", tmp_path / "image.tar")
    (tmp_path / "clean.tar").write_bytes(oci.tar(oci.oci_image([pack(oci.tar({"app/x": b"x"}))])))
    secrets.refuse_in_image("image app:1", tmp_path / "clean.tar")


@pytest.mark.parametrize("before", [0, 50, 99, 100, 150, 290])
def test_a_secret_across_two_pieces_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(secrets, "BLOCK_BYTES", 100)
    monkeypatch.setattr(secrets, "OVERLAP_BYTES", 90)
    (tmp_path / "f").write_bytes(b" " * before + b"token: " + token().encode() + b" " * 300)
    with (tmp_path / "f").open("rb") as stream:
        found = secrets._search_stream(secret_patterns.scanner(), "f", stream)
    assert [one.offset for one in found] == [before + len("token: ")]
