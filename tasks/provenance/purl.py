"""Package URLs of inputs (the purl specification, package-url.github.io)."""

from __future__ import annotations

import re

from packageurl import PackageURL

from tasks.provenance.manifest_schema import Input

NPM = re.compile(r"(?:(@[^+]+)\+)?([^+]+)@([^@]+)\.tgz")  # as tasks/origins/npm.py names tarballs
WHEEL = re.compile(r"([^-]+)-([^-]+)-[^-]+-[^-]+-[^-]+\.whl")  # PEP 427


def of(one: Input) -> PackageURL:
    """Return the package URL of an input: pkg:deb, pkg:npm, pkg:pypi, or pkg:generic."""
    if one.kind == "deb":
        qualifiers = {"arch": one.architecture} if one.architecture else {}
        return PackageURL("deb", "debian", one.name, one.version, qualifiers)
    if one.kind == "origin" and one.origin.startswith("npm:") and (found := NPM.fullmatch(one.name)):
        return PackageURL("npm", found[1], found[2], found[3])
    if one.kind == "origin" and (found := WHEEL.fullmatch(one.name)):
        name = re.sub(r"[-_.]+", "-", found[1]).lower()  # PEP 503
        return PackageURL("pypi", None, name, found[2], {"file_name": one.name})
    more = {"download_url": one.origin} if one.origin.startswith("http") else {}
    name = one.name.rpartition("/")[2].partition(":")[0]
    return PackageURL("generic", None, name, one.version or None, more | {"checksum": f"sha256:{one.sha256}"})


def purl(one: Input) -> str:
    """Return the package URL of an input as text."""
    return of(one).to_string()
