# SPDX-License-Identifier: MIT
"""Detached signatures by an SSH key (ssh-keygen(1), `-Y`) or a minisign key (minisign(1)).

A signature is a file beside the signed file: `FILE.sig` or `FILE.minisig`.  The tools read secret
keys from their files; no secret gets on a command line or into a log.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from tasks.util.errors import ToolMissing, UserError
from tasks.util.files import atomic_path, require_file
from tasks.util.process import run

NAMESPACE = "tcbuild"  # of SSH signatures; a signature for git or mail is not accepted
SSH, MINISIGN = ".sig", ".minisig"
SSH_PUBLIC = re.compile(rb"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( |\n|$)")
MINISIGN_PUBLIC = re.compile(rb"(untrusted comment: [^\n]*\n)?RW[A-Za-z0-9+/=]{54}\s*")
MINISIGN_SECRET = b"untrusted comment: "
MAX_KEY_SIZE = 1 << 20  # bytes of a key file
NO_PASSPHRASE = "load a key with a passphrase into ssh-agent and name its .pub file, or use a key without one"


def sign(path: Path, key: Path) -> Path:
    """Sign the file `path` with the secret `key`, and return the path of the signature.

    If an SSH key is in ssh-agent, `key` is its .pub file.  A signature of the other kind beside
    the file is removed, because it may be of an older file.  Raises `UserError` if the key cannot
    be used without a passphrase.
    """
    head = _read(key)
    if head.startswith(MINISIGN_SECRET) and b"public key" in head.split(b"\n")[0]:
        raise UserError(f"{key} is a public key", "sign with the secret key; minisign -G makes a pair")
    ending, other = (MINISIGN, SSH) if head.startswith(MINISIGN_SECRET) else (SSH, MINISIGN)
    final = path.with_name(path.name + ending)
    with atomic_path(final) as partial, tempfile.TemporaryDirectory(prefix="tcbuild-sign-") as folder:
        work = Path(folder, path.name)
        shutil.copyfile(path, work)
        if ending == MINISIGN:
            # Without -t, minisign writes the time into the trusted comment.
            argv: list[str | Path] = ["minisign", "-S", "-s", key, "-m", work, "-x", partial, "-t", path.name]
            _run_signer(argv, key, "the key may have a password; minisign -G -W makes one without")
        else:
            argv = ["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, work]
            _run_signer(argv, key, NO_PASSPHRASE)
            shutil.copyfile(work.with_name(work.name + SSH), partial)
    path.with_name(path.name + other).unlink(missing_ok=True)
    return final


def _run_signer(argv: list[str | Path], key: Path, hint: str) -> None:
    agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if os.environ.get(name)}
    try:
        run(argv, env=agent)
    except ToolMissing:
        raise
    except UserError as error:
        lines = [line.removeprefix("  | ").strip() for line in error.detail.splitlines() if "  | " in line]
        said = next((line for line in lines if "UNPROTECTED" in line or "permissions" in line.lower()), "")
        why = "other users can read it (chmod 600)" if said else (lines[-1] if lines else error.message)
        raise UserError(f"cannot sign with {key}: {why}", "" if said else hint) from None


def find(path: Path) -> Path | None:
    """Return the signature beside `path`, None if there is none."""
    there = [path.with_name(path.name + ending) for ending in (SSH, MINISIGN)]
    return next((one for one in there if one.is_file()), None)


def verify(data: bytes, name: str, signature: Path | None, key: Path) -> str:
    """Verify that `key` signed `data`, and return the signer as text for people.

    key: a file of SSH public keys, an allowed_signers file (ssh-keygen(1)), or a minisign public key;
    name: of the data, for errors.  Raises `UserError` if the signature is missing, of another
    kind than the key, or invalid.
    """
    content = _read(key)
    is_minisign = bool(MINISIGN_PUBLIC.fullmatch(content))
    wanted = MINISIGN if is_minisign else SSH
    if signature is None or not signature.name.endswith(wanted):
        raise UserError(
            f"{name} has no signature {name}{wanted} beside it", "sign it, or give the key that signed it"
        )
    with tempfile.TemporaryDirectory(prefix="tcbuild-verify-") as folder:
        signed, copy = Path(folder, "signed"), Path(folder, f"signed{wanted}")
        signed.write_bytes(data)
        copy.write_bytes(_read(signature))
        if is_minisign:
            argv = ["minisign", "-V", "-Q", "-p", str(key.absolute()), "-m", str(signed), "-x", str(copy)]
            _check_status(run(argv, check=False).status, name, key)
            return f"minisign key {key.name}"
        # ssh-keygen finds only the first entry of a key, which may be for another namespace or time.
        for entry in _allowed_signers(content, key):
            signer = Path(folder, "allowed_signer")
            signer.write_bytes(entry + b"\n")
            principal = _verify_ssh(data, copy, signer)
            if principal:
                return f"SSH key {key.name}" if principal == NAMESPACE else principal
        raise _invalid(name, key)


def _verify_ssh(data: bytes, signature: Path, signer: Path) -> str:
    """Return the principal of the one entry in the file `signer`; "" if its key did not sign `data`."""
    find = ["ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", str(signer)]
    principal = run(find, check=False).stdout.partition("\n")[0]
    check = ["ssh-keygen", "-Y", "verify", "-f", str(signer), "-I", principal, "-n", NAMESPACE]
    argv = [*check, "-s", str(signature)]
    return principal if principal and run(argv, stdin=data, check=False).status == 0 else ""


def _allowed_signers(content: bytes, key: Path) -> list[bytes]:
    """Return the entries of an allowed_signers file; a line that is a public key alone becomes one."""
    lines = [line.strip() for line in content.splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    head = b'%s namespaces="%s" ' % (NAMESPACE.encode(), NAMESPACE.encode())
    lines = [head + line if SSH_PUBLIC.match(line) else line for line in lines]
    if b"PRIVATE KEY" in content or not lines or not all(len(line.split()) >= 3 for line in lines):
        raise UserError(
            f"{key} is no public key", "give an SSH or minisign public key, or an allowed_signers file"
        )
    return lines


def _check_status(status: int, name: str, key: Path) -> None:
    if status:
        raise _invalid(name, key)


def _invalid(name: str, key: Path) -> UserError:
    hint = "do not trust it: it was changed after it was signed, or signed with another key"
    return UserError(f"{name}: the signature is not valid for {key.name}", hint)


def _read(path: Path) -> bytes:
    require_file(path, "give the path of the key file")
    with path.open("rb") as stream:
        return stream.read(MAX_KEY_SIZE)
