# SPDX-License-Identifier: MIT
"""Package URLs of inputs (the purl specification, package-url.github.io)."""

from __future__ import annotations

from packageurl import PackageURL

from tasks.origins import kinds
from tasks.provenance.manifest_schema import Input


def of(one: Input) -> PackageURL:
    """Return the package URL of an input: pkg:deb, pkg:npm, pkg:pypi, or pkg:generic."""
    if one.kind == "deb":
        qualifiers = {"arch": one.architecture} if one.architecture else {}
        return PackageURL("deb", "debian", one.name, one.version, qualifiers)
    kind = kinds.kind_of(one.origin) if one.kind == "origin" else None
    registered = kind.package_name(one.origin, one.name) if kind else None
    if registered:
        return PackageURL(*registered)
    if one.kind == "git":
        name = one.name.rstrip("/").rpartition("/")[2].removesuffix(".git")
        return PackageURL("generic", None, name, one.version, {"vcs_url": f"git+{one.name}@{one.version}"})
    address = kind.address(one.origin) if kind else one.origin if one.origin.startswith("http") else ""
    more = {"download_url": address} if address else {}
    name = one.name.rpartition("/")[2].partition(":")[0]
    return PackageURL("generic", None, name, one.version or None, more | {"checksum": f"sha256:{one.sha256}"})


def purl(one: Input) -> str:
    """Return the package URL of an input as text."""
    return of(one).to_string()
