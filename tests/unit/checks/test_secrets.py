# SPDX-License-Identifier: MIT
"""Secrets of every kind are found where they are, and nothing else is taken for one.

They are put together here: none stands in this file as it would be found.
"""

from __future__ import annotations

import base64
import gzip
import os
import random
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.checks import secrets
from tasks.formats import cpio
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tests.support import oci

RANDOM = random.Random(5)
LETTERS = string.ascii_letters + string.digits
BASE64 = "".join(RANDOM.choices(LETTERS, k=64))


def word(count: int, letters: str = LETTERS) -> str:
    return "".join(RANDOM.choices(letters, k=count))


def pem(kind: str, newline: str = "\n") -> str:
    begin = f"-----BEGIN {kind}PRIVATE KEY-----"
    return newline.join([begin, BASE64, BASE64, begin.replace("BEGIN", "END")])


FOUND = {
    "pem": (pem(""), "PEM"),
    "rsa": (pem("RSA "), "PEM"),
    "openssh": (pem("OPENSSH "), "PEM"),
    "in-a-source": (f'const key = "{pem("EC ", chr(92) + "n")}";', "PEM"),
    "encrypted": (pem("RSA ").replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), "PEM"),
    "pgp": (f"-----BEGIN PGP PRIVATE KEY {'BLOCK'}-----\nVersion: 1\n\n{BASE64}\n", "OpenPGP"),
    "putty": ("PuTTY-User-Key-File-" + "3: ssh-ed25519\nEncryption: none\n", "PuTTY"),
    "age": ("AGE-SECRET-KEY-" + "1" + word(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"), "age"),
    "minisign": (f"untrusted comment: minisign encrypted {'secret'} key\n{BASE64}{BASE64}\n", "minisign"),
    "wireguard": (f"[Interface]\nPrivate{'Key'} = {word(42)}A=\n", "WireGuard"),
    "github": (f"token: gh{'p'}_{word(36)}\n", "GitHub"),
    "github-fine": (f"github{'_pat_'}{word(22)}_{word(59)}", "GitHub"),
    "gitlab": (f"glpat{'-'}{word(20)}", "GitLab"),
    "aws": (f"id = AKIA{word(16, string.ascii_uppercase)}\nsecret = {word(40)}\n", "AWS"),
    "slack": (f"xoxb{'-'}123456789012-{word(24)}", "Slack"),
    "npm": (f"npm{'_'}{word(36)}", "npm token"),
    "pypi": (f"pypi-{'AgEI'}{word(80)}", "PyPI"),
    "docker-hub": (f"dckr_{'pat'}_{word(27)}", "Docker Hub"),
    "jwt": (f"Bearer eyJ{word(20)}{'.eyJ'}{word(30)}.{word(43)}", "web token"),
    "docker-config": ('{"auths": {"https://r.example": {"auth": "' + word(24) + '"}}}', "docker's config"),
    "npmrc": (f"//registry.example/:_auth{'Token'}={word(36)}", "npmrc"),
    "address": (f"deb https://me:{word(12)}@host.example/debian", "in an address"),
}

CLEAN = {
    "bare-line": "-----BEGIN RSA PRIVATE KEY-----\0-----END RSA PRIVATE KEY-----\0",
    "public": f"-----BEGIN PUBLIC KEY-----\n{BASE64}\n-----END PUBLIC KEY-----\n",
    "certificate": f"-----BEGIN CERTIFICATE-----\n{BASE64}\n",
    "minisign-public": f"untrusted comment: minisign public key\n{BASE64}{BASE64}\n",
    "short-token": "ghp_short glpat-short npm_config_registry npm_lifecycle_event xoxb-x",
    "variable": "//registry.example/:_authToken=${NPM_TOKEN}",
    "empty-auths": '{"auths": {"https://r.example": {}}}',
    "docs": "http://user:password@host.example/ https://user:xxxxxx@host.example/ http://%s:%s@%s/",
    "host-port": "http://host.example:8080/a@b/c mailto:a@b git@host.example:a/b.git",
    "aws-id-alone": f"AKIA{word(16, string.ascii_uppercase)}",
    "netrc-in-a-manual": "machine host login me password hush",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if secrets.SECRET_VARIABLE.search(name):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("text, kind", FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("around", [b"", b"\x7fELF\0\xff" * 100 + b"\n"], ids=["text", "binary"])
def test_each_kind_is_found(text: str, kind: str, around: bytes) -> None:
    found = list(secrets.scanner().search("a/file", around + text.encode() + b"\n" + around))
    assert len(found) == 1
    assert kind in found[0].kind
    assert len(around) <= found[0].offset < len(around) + len(text)


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_what_is_none_is_not_taken_for_one(text: str) -> None:
    assert list(secrets.scanner().search("usr/share/doc/file", text.encode())) == []


def test_every_pattern_has_its_test() -> None:
    kinds = {pattern.name for pattern in secrets.rules().pattern}
    tested = {
        found.kind for text, _ in FOUND.values() for found in secrets.scanner().search("f", text.encode())
    }
    assert kinds - tested == {"a password (.netrc)"}  # the next one


@pytest.mark.parametrize("name, count", [("home/tc/.netrc", 1), ("usr/share/doc/netrc", 0)])
def test_some_are_looked_for_by_name(name: str, count: int) -> None:
    assert len(list(secrets.scanner().search(name, b"machine host login me password hush"))) == count


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


@pytest.mark.parametrize(
    "name, value, taken",
    [
        ("CI_JOB_TOKEN", "12345678", True),
        ("DB_PASSWORD", "12345678", True),
        ("AWS_SECRET_ACCESS_KEY", "12345678", True),
        ("SIGNING_KEY", "12345678", True),
        ("KEY", "12345678", True),
        ("DB_PASSWORD", "1234567", False),
        ("SIGNING_KEY", "/root/keys/minisign.key", False),
        ("KEYBOARD_LAYOUT", "de-latin1-nodeadkeys", False),
        ("APT_KEY_DONT_WARN", "12345678", False),
    ],
)
def test_variables_that_are_secret(name: str, value: str, taken: bool) -> None:
    assert (name in secrets.secret_values({name: value})) is taken


def test_members_are_searched(tmp_path: Path) -> None:
    members = [cpio.regular("etc/a", b"a"), cpio.regular("etc/key", FOUND["pem"][0].encode())]
    with pytest.raises(UserError, match=r"the base root holds .* etc/key: a private key \(PEM\), at byte 0"):
        secrets.refuse_in_members("the base root", members, tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_what_was_found_clean_is_looked_at_again_only_for_the_values_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tmp_path / "clean"
    members = [cpio.regular("etc/a", b"a 12345678")]
    seen: list[str] = []
    search = secrets.Scanner.search

    def watched(scanner: secrets.Scanner, path: str, data: bytes) -> Iterator[secrets.Finding]:
        if scanner.rules.pattern:
            seen.append(path)
        return search(scanner, path, data)

    monkeypatch.setattr(secrets.Scanner, "search", watched)
    secrets.refuse_in_members("x", members, clean)
    secrets.refuse_in_members("x", [*members, cpio.regular("etc/b", b"b")], clean)
    assert seen == ["etc/a", "etc/b"]
    with pytest.raises(UserError, match="private key"):
        secrets.refuse_in_members("x", [cpio.regular("etc/a", FOUND["pem"][0].encode())], clean)
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
        (tmp_path / f"key{number:02}").write_text(FOUND["pem"][0])
    files = [(path.name, path) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(UserError) as caught:
        secrets.refuse_in_files("mydata", files)
    assert caught.value.detail.splitlines()[1].startswith("  key01: a private key")
    assert caught.value.detail.splitlines()[-1] == "  and 2 more"


def allowing(monkeypatch: pytest.MonkeyPatch, **entry: str) -> None:
    made = secrets.Rules(secrets.rules().pattern, allow=(secrets.Allow(**entry),))
    monkeypatch.setattr(secrets, "rules", lambda: made)


@pytest.mark.parametrize(
    "where, path, passes",
    [("mydata", "home/*", True), ("mydata", "etc/*", False), ("extension x", "home/*", False)],
)
def test_what_is_allowed_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, path: str, passes: bool
) -> None:
    (tmp_path / "id").write_text(FOUND["openssh"][0])
    allowing(monkeypatch, where=where, path=path, reason="the key of this test")
    try:
        secrets.refuse_in_files("mydata", [("home/tc/.ssh/id", tmp_path / "id")])
    except UserError:
        assert not passes
    else:
        assert passes


def test_private_files_would_be_for_all(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.touch(mode=0o644)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/open").touch(mode=0o644)
    secrets.refuse_private("mydata", tmp_path / "etc", reference)
    (tmp_path / "etc/closed").touch(mode=0o600)
    with pytest.raises(UserError, match=r"mydata holds .* closed: a file that only its owner may read"):
        secrets.refuse_private("mydata", tmp_path / "etc", reference)
    reference.chmod(0o600)  # as a umask of 077 makes all of a checkout
    secrets.refuse_private("mydata", tmp_path / "etc", reference)


@pytest.mark.parametrize("where", ["logs/kernel.log", "iso.manifest.json", "lock.toml"])
def test_logs_and_manifests_are_searched(tmp_path: Path, where: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / where).write_text("nothing")
    secrets.refuse_in_records(tmp_path)
    (tmp_path / where).write_text(FOUND["address"][0])
    with pytest.raises(UserError, match=f"{where}: a password in an address"):
        secrets.refuse_in_records(tmp_path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_layers_of_images_are_searched(tmp_path: Path, pack: type[bytes]) -> None:
    layer = oci.tar({"app/x": b"x", "root/.ssh/id": FOUND["openssh"][0].encode()})
    (tmp_path / "image.tar").write_bytes(oci.tar(oci.oci_image([pack(layer)])))
    with pytest.raises(UserError, match=r"image app:1 holds .*blobs/sha256/[0-9a-f]{64}: a private key"):
        secrets.refuse_in_image("image app:1", tmp_path / "image.tar")
    (tmp_path / "clean.tar").write_bytes(oci.tar(oci.oci_image([pack(oci.tar({"app/x": b"x"}))])))
    secrets.refuse_in_image("image app:1", tmp_path / "clean.tar")


@pytest.mark.parametrize("before", [0, 50, 99, 100, 150, 290])
def test_a_secret_across_two_pieces_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(secrets, "BLOCK_BYTES", 100)
    monkeypatch.setattr(secrets, "OVERLAP_BYTES", 90)
    (tmp_path / "f").write_bytes(b" " * before + FOUND["github"][0].encode() + b" " * 300)
    with (tmp_path / "f").open("rb") as stream:
        found = secrets._search_stream(secrets.scanner(), "f", stream)
    assert [one.offset for one in found] == [before + len("token: ")]


@pytest.mark.parametrize(
    "data, expected",
    [
        ({"pattern": [{"name": "x", "markers": ["abc"], "regex": "("}]}, "regex: "),
        ({"pattern": [{"name": "x", "markers": ["ab"], "regex": "a"}]}, "markers: expected"),
        ({"pattern": [], "allow": [{"where": "x", "path": "y", "reason": " "}]}, "reason: expected"),
    ],
)
def test_rules_are_checked(data: object, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        toml_schema.build(data, secrets.Rules, "secrets.toml", "")


def test_encoded_password_of_a_registry_is_one() -> None:
    encoded = base64.b64encode(b"me:hush-hush").decode()
    text = '{"auths":{"r.example":{"auth":"' + encoded + '"}}}'
    assert list(secrets.scanner().search("home/tc/.docker/config.json", text.encode()))
