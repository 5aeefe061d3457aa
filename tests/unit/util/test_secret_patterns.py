# SPDX-License-Identifier: MIT
"""Secrets of every kind are found where they are, and nothing else is taken for one."""

from __future__ import annotations

import base64
import os
import re
import string
import time

import pytest

from tasks.util import secret_patterns, toml_schema
from tasks.util.errors import UserError
from tests.support.secrets import BASE64, der, pem, token, word

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
    "npmrc": (f"//registry.example/:_auth{'Token'}={word(36)}", "npm password"),
    "npmrc-password": (f"//registry.example/:_{'password'}={word(12)}\n", "npm password"),
    "google-client": (f"client_secret: GOC{'SPX'}-{word(28)}\n", "client secret of Google"),
    "tailscale": (f"tskey{'-auth'}-{word(12)}CNTRL-{word(32)}", "Tailscale"),
    "digitalocean": (f"dop{'_v1_'}{word(64, '0123456789abcdef')}\n", "DigitalOcean"),
    "vault": (f"VAULT_TOKEN=h{'vs.'}7{word(94)}\n", "Vault"),
    "eap": (f'network={{\n  eap=PEAP\n  identity="me"\n  password="{word(9)}"\n}}\n', "wpa_supplicant"),
    "eap-hash": (f"network={{\n  password=hash:{word(32, '0123456789abcdef')}\n}}\n", "wpa_supplicant"),
    "eap-key": (f'network={{\n  private_key="/k"\n  private_key_passwd="{word(9)}"\n}}\n', "wpa_supplicant"),
    "hostapd": (f"ssid=home\nwpa_passphrase={word(6)} {word(6)}\r\n", "hostapd"),
    "hostapd-sae": (f"sae_password={word(12)}|id=x\n", "hostapd"),
    "gitlab-runner": (f"glrt{'-'}{word(20)}", "GitLab"),
    "aws-secret": (f"aws_secret_{'access'}_key = {word(40)}\n", "secret access key of AWS"),
    "aws-secret-json": (f'{{"Secret{"Access"}Key": "{word(40)}"}}', "secret access key of AWS"),
    "openai": (f"OPENAI_API_KEY=sk-{'proj'}-{word(74)}T3Blbk{word(40)}\n", "OpenAI key"),
    "openai-old": (f"sk-{word(20)}T3Blbk{'FJ'}{word(20)}", "OpenAI key (older form)"),
    "anthropic": (f"sk-{'ant'}-api03-{word(93)}AA", "Anthropic"),
    "google": (f"key=AI{'za'}{word(35)}", "Google"),
    "hugging-face": (f"hf{'_'}{word(34, string.ascii_letters)}", "Hugging Face"),
    "azure": (f"DefaultEndpointsProtocol=https;Account{'Key='}{word(86)}==;", "Azure"),
    "sendgrid": (f"SG{'.'}{word(22)}.{word(43)}", "SendGrid"),
    "slack-webhook": (f"https://hooks.slack.com/{'services'}/T{word(8)}/B{word(8)}/{word(24)}", "webhook"),
    "square": (f"sq0{'csp'}-{word(43)}", "Square"),
    "stripe": (f"sk_{'live'}_{word(24)}", "Stripe"),
    "wpa": (f'network={{\n\tssid="home"\n\tpsk="{word(12)}"\n}}\n', "wpa_supplicant"),
    "wpa-hex": (f"network={{\n  ssid=x\n  psk={word(64, '0123456789abcdef')}\n}}\n", "wpa_supplicant"),
    "network-manager": (f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={word(12)}\n", "NetworkManager"),
    "iwd": (f"[Security]\nPassphrase={word(12)}\n", "NetworkManager, iwd"),
    "address-without-user": (f"redis://:{word(12)}@host.example/0", "in an address"),
    "address-without-slash": (f"proxy = http://me:{word(12)}@host.example:3128\n", "in an address"),
    "address-encoded": (f"postgres://app:{word(5)}%40{word(5)}@db/app", "in an address"),
    "address-compose": (f"postgres://app:{word(12)}@my_db:5432/app", "in an address"),
    "address-ipv6": (f"postgres://app:{word(12)}@[fd00::1]:5432/app", "in an address"),
    "address-in-quotes": (f'{{"url": "amqp://me:{word(8)}@rabbit"}}', "in an address"),
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
    "sk-words": "sk-project-management sk-proj-short sk_live_ sk-ant-x task-proj-" + "a" * 60,
    "hugging-face-variable": "hf_transformers_cache hf_" + "x1" * 17,
    "webhook-of-a-manual": "https://hooks.slack.com/services/T000/B000/XXXX",
    "aws-secret-variable": "aws_secret_access_key = ${SECRET} AWS_SECRET_ACCESS_KEY=your-key-here",
    "aws-secret-too-long": "SecretAccessKey = " + "a" * 41,
    "wpa-manual": 'network={\n  psk="example"\n  psk="password"\n}\n# psk="very secret"\n',
    "wpa-outside": f'psk="{word(12)}"',
    "wifi-example": "[wifi-security]\npsk=password\n",
    "address-example": "redis://:password@host/ http://:8080@x redis://:pw@host/ http://a:b@c",
    "address-formats": "http://${USER}:${PASSWORD}@host/ http://USER:%s@host ftp://user:<pass>@host",
    "time": "at http://host:12:34@5 mailto://a.b:c@",
    "utf-16": "plain text of no importance".encode("utf-16").decode("latin-1"),
    # Published examples: AWS's manuals, jwt.io, RFC 7519, wpa_supplicant's and hostapd's own files.
    "aws-example": "AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    "aws-example-2": "AKIAI44QH8DHBEXAMPLE\nSecretAccessKey = je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY\n",
    "jwt-io": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0"
    ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "docker-manual": '{"auths": {"https://r.example": {"auth": "<base64-encoded>"}}}',
    "wpa-sample": 'network={\n\tssid="example"\n\tpsk="very secret passphrase"\n}\n'
    "network={\n\tpsk=06b4be19da289f475aa46a33cb793029d4ab3db7a23ee92382eb0106c72ac7bb\n}\n"
    'network={\n\tidentity="user@example.com"\n\tpassword="foobar"\n}\n',
    "hostapd-sample": "#wpa_passphrase=secret passphrase\nwpa_passphrase=secret passphrase\n",
    "hostapd-script": "wpa_passphrase=$PASSPHRASE\nwpa_passphrase=%s\n  wpa_passphrase=passphrase,\n",
    "short-tokens": "tskey-auth-x dop_v1_abc GOCSPX-x hvs.x",
    "netrc-in-a-manual": "machine host login me password hush",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if secret_patterns.SECRET_VARIABLE.search(name):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("text, kind", FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("around", [b"", b"\x7fELF\0\xff" * 100 + b"\n"], ids=["text", "binary"])
def test_each_kind_is_found(text: str, kind: str, around: bytes) -> None:
    found = list(secret_patterns.scanner().search("a/file", around + text.encode() + b"\n" + around))
    assert len(found) == 1
    assert kind in found[0].kind
    assert found[0].offset is not None
    assert len(around) <= found[0].offset < len(around) + len(text)


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_what_is_none_is_not_taken_for_one(text: str) -> None:
    assert list(secret_patterns.scanner().search("usr/share/doc/file", text.encode())) == []


def test_a_variable_is_searched_without_the_space_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("correct-horse\n", " correct-horse", "correct-horse\r\n"):
        monkeypatch.setenv("DEPLOY_TOKEN", value)
        found = [str(one) for one in secret_patterns.scanner().search("f", b"x=correct-horse;")]
        assert found == ["f: the value of this machine's variable DEPLOY_TOKEN, at byte 2"]


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text, kind", [FOUND["github"], FOUND["openssh"], FOUND["address"]])
def test_utf_16_is_searched(form: str, text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = "# ünïcode\r\n"
    for start in (before, ""):
        found = list(secret_patterns.scanner().search("f", (start + text).encode(form)))
        plain = list(secret_patterns.scanner().search("f", text.encode()))
        assert [one.kind for one in found] == [one.kind for one in plain]
        assert plain[0].offset is not None
        mark, width = {"utf-16": (2, 2), "utf-32": (4, 4)}.get(form, (0, 2))
        assert found[0].offset == mark + (len(start) + plain[0].offset) * width
    monkeypatch.setenv("DEPLOY_TOKEN", "correct-horse")
    assert [*secret_patterns.scanner().search("f", "x = correct-horse".encode(form))]


@pytest.mark.parametrize("form", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("before", [b"MZ\x90\0\xff" * 100, b"MZ\x90\0\xff" * 100 + b"\x1f"])
def test_a_string_in_utf_16_within_a_program_is_searched(form: str, before: bytes) -> None:
    text, kind = FOUND["github"]
    data = before + f"token {text}".encode(form) + b"\xff\0\1\2" * 100
    (found,) = secret_patterns.scanner().search("usr/lib/program.dll", data)
    assert kind in found.kind
    assert found.offset in range(len(before), len(before) + len(text) * 2)
    assert [*secret_patterns.scanner().search("f", before + "nothing of the kind".encode(form))] == []


RSA, EC, ED25519 = (bytes.fromhex(oid) for oid in ("2a864886f70d010101", "2a8648ce3d0201", "2b6570"))
P256 = bytes.fromhex("2a8648ce3d030107")


def der_keys() -> dict[str, tuple[bytes, str]]:
    """Return keys as RFC 8017, RFC 5915 and RFC 5958 lay them out, with numbers of no meaning."""
    version, number, exponent = der(2, b"\0"), der(2, b"\0" + bytes(range(128, 256)) * 2), der(2, b"\1\0\1")
    rsa = der(0x30, version + number + exponent + number * 6)
    curve = der(0xA0, der(6, P256))
    ec = der(0x30, der(2, b"\1") + der(4, bytes(range(32))) + curve)
    head = {name: der(0x30, der(6, oid) + more) for name, oid, more in KINDS}
    return {
        "rsa": (rsa, "a private key (RSA, DER)"),
        "ec": (ec, "a private key (EC, DER)"),
        "rsa-8": (der(0x30, version + head["rsa"] + der(4, rsa)), "a private key (PKCS#8, DER)"),
        "ec-8": (der(0x30, version + head["ec"] + der(4, ec)), "a private key (PKCS#8, DER)"),
        "ed25519": (
            der(0x30, version + head["ed25519"] + der(4, der(4, bytes(range(32))))),
            "a private key (PKCS#8, DER)",
        ),
        "encrypted": (
            der(
                0x30,
                der(0x30, der(6, bytes.fromhex("2a864886f70d01050d")) + der(0x30, bytes(60))) + der(4, rsa),
            ),
            "an encrypted private key (PKCS#8, DER)",
        ),
    }


KINDS = (("rsa", RSA, der(5, b"")), ("ec", EC, der(6, P256)), ("ed25519", ED25519, b""))


@pytest.mark.parametrize("key", der_keys())
def test_keys_in_der_are_found(key: str) -> None:
    data, kind = der_keys()[key]
    assert [str(one) for one in secret_patterns.scanner().search("etc/ssl/key", data)] == [
        f"etc/ssl/key: {kind}, at byte 0"
    ]
    assert [*secret_patterns.scanner().search("usr/bin/program", b"\x7fELF" + data)] == []


def test_public_keys_and_certificates_in_der_are_none() -> None:
    number, exponent = der(2, b"\0" + bytes(range(128, 256)) * 2), der(2, b"\1\0\1")
    for name, oid, more in KINDS:
        inside = der(0x30, number + exponent) if name == "rsa" else b"\4" + bytes(range(64))
        public = der(0x30, der(0x30, der(6, oid) + more) + der(3, b"\0" + inside))
        serial = der(0xA0, der(2, b"\2")) + der(2, b"\1")
        certificate = der(0x30, der(0x30, serial + der(0x30, der(6, oid) + more) + public) + public)
        for data in (public, certificate, der(0x30, number + exponent)):
            assert [*secret_patterns.scanner().search("etc/ssl/x", data)] == []


def test_a_secret_in_a_name_is_not_told() -> None:
    name = token()
    found = [str(one) for one in secret_patterns.scanner().search(f"a/{name}/b", f"{name}\n".encode())]
    assert found == ["a/***/b: a GitHub token, in its name", "a/***/b: a GitHub token, at byte 0"]
    *_, last = secret_patterns.scanner().search(f"{name}/{token()}/{name}", b"")
    assert str(last) == "***/***/***: a GitHub token, in its name"


NAMED = {
    ".pgpass": (f"# host:port\nlocalhost:6543:*:me:{word(9)}\n", "a password (.pgpass)"),
    ".netrc": (f"machine host.example\nlogin me\npassword {word(6)}\n", "a password (.netrc)"),
    "_netrc": (f"default login me password {word(6)}\n", "a password (.netrc)"),
    ".my.cnf": (f"[client]\nuser=me\npassword = {word(6)}\n", "a password (.my.cnf, .pypirc)"),
    ".pypirc": (f"[pypi]\nusername: me\npassword: {word(6)}\n", "a password (.my.cnf, .pypirc)"),
    ".npmrc": (f"_auth={word(12)}==\n", "an npm password (.npmrc)"),
    "wifi.db": (f"home net\t{word(9)}\tWPA\n", "the key of a wireless network (Tiny Core's wifi.db)"),
}


@pytest.mark.parametrize("name", NAMED)
def test_some_are_looked_for_by_name(name: str) -> None:
    text, kind = NAMED[name]
    assert [one.kind for one in secret_patterns.scanner().search(f"home/tc/{name}", text.encode())] == [kind]
    assert [*secret_patterns.scanner().search("usr/share/doc/manual", text.encode())] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".pgpass", "# localhost:5432:*:me:x\n"),
        (".my.cnf", "#password = your_password\npassword = your_password\n"),
        (".npmrc", "_authToken=${NPM_TOKEN}\n"),
        ("wifi.db", "open net\t\t\n"),
    ],
)
def test_without_a_password_such_files_are_none(name: str, text: str) -> None:
    assert [*secret_patterns.scanner().search(f"home/tc/{name}", text.encode())] == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("'a'", False),
        ("('cde', 'console=ttyS0,115200')", False),
        ("'https://deb.example/debian'", False),
        ("'https://me:pw@deb.example/debian'", True),
        ("('PASSWORD=hunter',)", True),
        ("'$6$salt$" + "a" * 86 + "'", True),
        ("'$y$j9T$abcdef$xyz'", True),
        ("'costs $5 or $6'", False),
        (repr(FOUND["github"][0]), True),
    ],
)
def test_values_that_nobody_may_read(text: str, secret: bool) -> None:
    assert secret_patterns.is_secret(text, values=False) is secret


def test_values_of_variables_are_told_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "correct-horse")
    assert secret_patterns.is_secret("'correct-horse'")
    assert not secret_patterns.is_secret("'correct-horse'", values=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kernel: 2041 objects", "kernel: 2041 objects"),
        ("no answer of https://me:pw@deb.example/debian", "no answer of https://***@deb.example/debian"),
        ("curl --header 'X-Token: hunter22'", "curl --header 'X-Token: ***'"),
        ("MY_API_KEY=hunter22 ./doit", "MY_API_KEY=*** ./doit"),
        ("the hash $6$salt$" + "a" * 86, "***"),
        ("it got correct-horse", "***"),
    ],
)
def test_a_message_for_others_has_no_secret(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "correct-horse")
    assert secret_patterns.publishable(text) == shown
    assert secret_patterns.publishable(f"it got {token()}") == "***"


def test_a_long_word_is_searched_in_one_go() -> None:
    """Encoded files are such words; the time of a search must grow with their length, not with its square."""
    begun = time.process_time()
    assert secret_patterns.redacted("x" * 1_000_000) == "x" * 1_000_000
    assert time.process_time() - begun < 5


def test_every_pattern_has_its_test() -> None:
    kinds = {pattern.name for pattern in secret_patterns.rules().pattern}
    tested = {
        found.kind
        for text, _ in FOUND.values()
        for found in secret_patterns.scanner().search("f", text.encode())
    }
    tested |= {
        found.kind for data, _ in der_keys().values() for found in secret_patterns.scanner().search("f", data)
    }
    assert kinds - tested == {kind for _, kind in NAMED.values()}


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
        ("PGPASS", "12345678", True),
        ("SMTP_PASS", "12345678", True),
        ("REGISTRY_AUTH", "12345678", True),
        ("DOCKER_AUTH_CONFIG", "12345678", True),
        ("CREDENTIALS", "12345678", True),
        ("CREDENTIALS_DIRECTORY", "/run/credentials", False),
        ("SSH_AUTH_SOCK", "/run/agent.sock", False),
        ("COMPASS", "12345678", False),
        ("BYPASS", "12345678", False),
        ("AUTHOR", "12345678", False),
        ("DB_PASSWORD", "1234567\n", False),
        ("DB_PASSWORD", "/2345678+abcdefgh=", True),
        ("SIGNING_KEY", "~/minisign.key", False),
        ("PGPASSWORD", "postgres", False),
        ("DB_PASSWORD", "Changeme", False),
    ],
)
def test_variables_that_are_secret(name: str, value: str, taken: bool) -> None:
    assert (name in secret_patterns.secret_values({name: value})) is taken


@pytest.mark.parametrize(
    "data, expected",
    [
        ({"pattern": [{"name": "x", "markers": ["abc"], "regex": "("}]}, "regex: "),
        ({"pattern": [{"name": "x", "markers": ["ab"], "regex": "a"}]}, "markers: expected"),
        ({"pattern": [{"name": "x", "markers": ["abc\u0100"], "regex": "a"}]}, "markers, start: expected"),
    ],
)
def test_rules_are_checked(data: object, expected: str) -> None:
    with pytest.raises(UserError, match=re.escape(expected)):
        toml_schema.build(data, secret_patterns.Rules, "secrets.toml", "")


def test_encoded_password_of_a_registry_is_one() -> None:
    encoded = base64.b64encode(b"me:hush-hush").decode()
    text = '{"auths":{"r.example":{"auth":"' + encoded + '"}}}'
    assert list(secret_patterns.scanner().search("home/tc/.docker/config.json", text.encode()))
