# SPDX-License-Identifier: MIT
"""`./doit lock` and `./doit fetch` against a mirror laid out as Tiny Core's, sound and broken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import profile, release
from tasks.config.inputs import source_file, told
from tasks.config.profile import Extension
from tasks.config.settings import Paths, Settings
from tasks.fetch import inputs
from tasks.origins import http
from tasks.origins.lock import load_lock
from tasks.origins.published import OWN_MD5, Published
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.kernel_org import KernelOrgSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page, forbid_sockets
from tests.support.settings import with_values
from tests.support.tinycore import (
    DISTRIBUTION,
    KERNEL_CONFIG,
    KERNEL_SOURCE,
    RELEASE,
    TCZ,
    TinyCore,
)

ROOTFS = f"{DISTRIBUTION}/rootfs64.gz"
PUBLISHED = release.published
ZEROS = "0" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and no waiting between tries."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http, "DELAYS", (0.0, 0.0))
    monkeypatch.setattr(http, "TIMEOUT", (2.0, 1.0))
    defaults = {**(http.download.__kwdefaults__ or {}), "delays": (0.0, 0.0), "timeout": (2.0, 1.0)}
    monkeypatch.setattr(http.download, "__kwdefaults__", defaults)


def offering() -> Iterator[TinyCore]:
    with Mirror() as mirror:
        made = TinyCore(mirror)
        made.kernel()
        made.distribution(b"a root")
        made.extension("a", "b.tcz\r\n\r\nipv6-netfilter-KERNEL.tcz \r\n")
        made.extension("b", "c.tcz\nb2.tcz\n")
        made.extension("b2", "a.tcz\n")
        made.extension("c")
        yield made


@pytest.fixture
def one() -> Iterator[TinyCore]:
    yield from offering()


@pytest.fixture
def two() -> Iterator[TinyCore]:
    yield from offering()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return a function that makes settings of the project's tc11 profile on made-up mirrors."""
    tc11 = profile.load("tc11")
    monkeypatch.setattr(CHECKOUT, "profiles", tmp_path / "profiles")
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    monkeypatch.setattr(release, "published", dict)  # the files are made up
    (tmp_path / "profiles").mkdir()

    def call(*mirrors: TinyCore, names: tuple[str, ...] = ("a",)) -> Settings:
        extensions = tuple(Extension(name, origin="upstream") for name in names)
        urls = tuple(tiny.mirror.url for tiny in mirrors)
        mine = replace(tc11, mirrors=urls, extensions=extensions)
        return Settings(
            Paths("tc11", tmp_path / "out", tmp_path / "cache"),
            replace(mine, kernel=replace(mine.kernel, fragments=())),
        )

    return call


def left(settings: Settings) -> list[str]:
    """Return all files in the cache that are no whole download, and locks."""
    found = [path for path in settings.paths.cache.rglob("*") if path.is_file() and path.name != ".lock"]
    whole = {hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in found}
    odd = [path.name for path in found if path.parent.name not in whole]
    scratch = [path.name for path in settings.paths.cache.rglob(".lock.*.part")]
    locks = [path.name for path in (settings.paths.pinned_lock, settings.paths.used_lock) if path.exists()]
    return [*odd, *scratch, *locks]


def test_everything_is_learned_shown_and_pinned(
    make: Callable[..., Settings], one: TinyCore, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make(one)
    inputs.lock(settings)
    pinned = load_lock(settings.paths.pinned_lock)
    assert [file.path for file in pinned.file] == sorted([ROOTFS, KERNEL_CONFIG, KERNEL_SOURCE])
    shown = {
        line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("lock: ")
    }
    digest = hashlib.sha256(b"a root").hexdigest()
    assert shown[ROOTFS] == f"lock: {ROOTFS}  6 bytes  md5 ok  sha256 {digest}"
    assert "  no md5 published  " in shown[KERNEL_CONFIG]
    assert "  md5 ok  " in shown[f"{TCZ}/a.tcz"]
    content = one.mirror.pages[f"{TCZ}/a.tcz"].content
    entry = next(item for item in pinned.extension if item.name == "a")
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.md5 == hashlib.md5(content).hexdigest()
    assert (entry.size, entry.deps) == (len(content), ("b", "ipv6-netfilter-KERNEL"))
    assert [item.name for item in pinned.extension] == ["a", "b", "b2", "c"]
    inputs.fetch(settings)
    assert load_lock(settings.paths.used_lock) == pinned
    assert entry.cached_in(settings.paths.cache).read_bytes() == content
    # Nothing of the kernel's own modules is asked of a mirror, and nothing tce-load would not ask for.
    asked = {request.path for request in one.mirror.requests}
    assert not [path for path in asked if "netfilter" in path or path.endswith((".info", ".list"))]


def test_circles_are_told(
    make: Callable[..., Settings], one: TinyCore, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs.lock(make(one))
    said = capsys.readouterr().out.splitlines()
    assert "warning: loop dependency a -> b -> b2 -> a; tce-load loads them anyway" in said


def test_locking_again_asks_for_nothing_and_changes_nothing(
    make: Callable[..., Settings], one: TinyCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(one)
    inputs.lock(settings)
    before = settings.paths.pinned_lock.stat()
    forbid_sockets(monkeypatch)
    inputs.lock(settings)
    inputs.fetch(settings)
    inputs.fetch(with_values(settings, offline=True, frozen=True))
    assert settings.paths.pinned_lock.stat().st_mtime_ns == before.st_mtime_ns


def test_fetch_brings_exactly_what_is_locked(
    make: Callable[..., Settings], one: TinyCore, tmp_path: Path
) -> None:
    settings = make(one)
    inputs.lock(settings)
    elsewhere = with_values(settings, cache=tmp_path / "other", output=tmp_path / "other-out")
    asked = len(one.mirror.requests)
    inputs.fetch(elsewhere)
    names = {request.path for request in one.mirror.requests[asked:]}
    pinned = load_lock(settings.paths.pinned_lock)
    assert names == {file.path for file in pinned.file} | {f"{TCZ}/{x.name}.tcz" for x in pinned.extension}
    assert load_lock(elsewhere.paths.used_lock) == pinned
    one.mirror.pages.clear()
    inputs.fetch(elsewhere)


@pytest.mark.parametrize(
    ("lacking", "says"),
    [("extension", "for extension a, which the profile"), ("file", f"for {KERNEL_SOURCE} of profile tc11")],
)
def test_fetch_never_learns(make: Callable[..., Settings], one: TinyCore, lacking: str, says: str) -> None:
    settings = make(one)
    inputs.lock(settings)
    full = load_lock(settings.paths.pinned_lock)
    cut = replace(full, **{lacking: ()})
    settings.paths.pinned_lock.write_text(cut.to_toml())
    asked = len(one.mirror.requests)
    with pytest.raises(UserError, match=f"no sha256 is locked {says}") as caught:
        inputs.fetch(settings)
    assert caught.value.hint == "./doit lock profile=tc11"
    with pytest.raises(UserError, match="fetch never does") as caught:
        inputs.fetch(with_values(settings, relock=True))
    assert caught.value.hint == "./doit lock relock=1"
    assert len(one.mirror.requests) == asked
    assert load_lock(settings.paths.pinned_lock) == cut


class TestRelock:
    NEW = b"hsqs another b"

    @pytest.fixture
    def settings(self, make: Callable[..., Settings], one: TinyCore, tmp_path: Path) -> Settings:
        """Everything is locked; then the mirror changes `b` and the root; the cache is empty."""
        settings = make(one)
        inputs.lock(settings)
        one.extension("b", "c.tcz\n", self.NEW)
        one.distribution(b"another root")
        return with_values(settings, cache=tmp_path / "empty")

    @pytest.mark.parametrize("command", [inputs.lock, inputs.fetch])
    def test_another_content_is_an_error_with_both_hashes(
        self, settings: Settings, one: TinyCore, command: Callable[[Settings], None]
    ) -> None:
        before = settings.paths.pinned_lock.read_bytes()
        old = next(file.sha256 for file in load_lock(settings.paths.pinned_lock).file if file.path == ROOTFS)
        with pytest.raises(UserError) as caught:
            command(settings)
        assert f"expected {old}, got {hashlib.sha256(b'another root').hexdigest()}" in caught.value.message
        assert "relock=1" in caught.value.hint
        one.distribution(b"a root")
        with pytest.raises(UserError, match=hashlib.sha256(self.NEW).hexdigest()):
            command(settings)
        assert settings.paths.pinned_lock.read_bytes() == before

    def test_relock_takes_it_and_says_so(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        old = {item.name: item for item in load_lock(settings.paths.pinned_lock).extension}
        inputs.lock(with_values(settings, relock=True))
        new = {item.name: item for item in load_lock(settings.paths.pinned_lock).extension}
        assert set(new) == {"a", "b", "c"}
        assert (new["a"], new["c"]) == (old["a"], old["c"])
        digest = hashlib.sha256(self.NEW).hexdigest()
        assert new["b"].sha256 == digest
        said = capsys.readouterr().out
        assert f"lock: b.tcz changed: sha256 {old['b'].sha256} -> {digest}\n" in said
        assert f"lock: {ROOTFS} changed: sha256 " in said
        assert "a.tcz changed" not in said


# What can be wrong with a mirror: which page is broken how, and what the one error says.
FAULTS: list[tuple[str, Callable[[TinyCore], object], str]] = [
    (
        "no-such-extension",
        lambda tiny: tiny.mirror.pages.pop(f"{TCZ}/b2.tcz"),
        r"^b\.tcz needs b2\.tcz, which no mirror has",
    ),
    ("no-kernel", lambda tiny: tiny.mirror.pages.pop(KERNEL_SOURCE), r"linux-5\.4\.3-patched\.txz .*404"),
    (
        "cut",
        lambda tiny: setattr(tiny.mirror.pages[ROOTFS], "cut", 3),
        r"rootfs64\.gz could not be downloaded: .*cut short",
    ),
    (
        "wrong-bytes",
        lambda tiny: setattr(tiny.mirror.pages[f"{TCZ}/c.tcz"], "content", b"hsqs wrong"),
        r"c\.tcz could not be checked: .* has md5 .*, its \.md5\.txt says ",
    ),
    (
        "md5-of-another",
        lambda tiny: tiny.mirror.pages.update({f"{ROOTFS}.md5.txt": Page(f"{ZEROS}  x\n".encode())}),
        f"its .md5.txt says {ZEROS}",
    ),
    (
        "md5-is-html",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/a.tcz.md5.txt": Page(b"<html>oops</html>")}),
        r"a\.tcz\.md5\.txt: answered with a web page in place of the file",
    ),
    (
        "md5-is-junk",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/a.tcz.md5.txt": Page(b"<oops>")}),
        r"a\.tcz\.md5\.txt is not output of md5sum: '<oops>'",
    ),
    (
        "md5-fails",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/a.tcz.md5.txt": Page(status=503)}),
        r"a\.tcz could not be checked: .*503",
    ),
    (
        "dep-is-html",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/c.tcz.dep": Page(b"<html>")}),
        r"c\.tcz\.dep: answered with a web page in place of the file",
    ),
    (
        "dep-is-junk",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/c.tcz.dep": Page(b"<oops>")}),
        r"c\.tcz\.dep is no list of extensions: '<oops>'",
    ),
    (
        "dep-fails",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/c.tcz.dep": Page(status=500)}),
        r"c\.tcz\.dep could not be downloaded: .*500",
    ),
    (
        "dep-is-cut",
        lambda tiny: setattr(tiny.mirror.pages[f"{TCZ}/b.tcz.dep"], "cut", 6),
        r"b\.tcz\.dep could not be downloaded: .*cut short",
    ),
    (
        "dep-is-endless",
        lambda tiny: tiny.mirror.pages.update({f"{TCZ}/c.tcz.dep": Page(b"a.tcz\n" * 200_000)}),
        r"c\.tcz\.dep could not be downloaded: .*more than 1048576 bytes",
    ),
    ("no-squashfs", lambda tiny: tiny.extension("c", content=b"PK a zip"), r"c\.tcz is not a squashfs file"),
    (
        "stalls",
        lambda tiny: tiny.mirror.pages.update({ROOTFS: Page(b"a root", cut=2, stall=True)}),
        r"rootfs64\.gz could not be downloaded: .*timed out",
    ),
    (
        "redirects-in-a-circle",
        lambda tiny: tiny.mirror.pages.update({ROOTFS: Page(location=f"/{ROOTFS}")}),
        r"rootfs64\.gz could not be downloaded: ",
    ),
]


@pytest.mark.parametrize(
    ("broken", "says"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_broken_mirror_gives_one_line_and_leaves_nothing(
    make: Callable[..., Settings], one: TinyCore, broken: Callable[[TinyCore], object], says: str
) -> None:
    settings = make(one)
    broken(one)
    with pytest.raises(UserError, match=says) as caught:
        inputs.lock(settings)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert "continues" not in caught.value.hint  # what nobody knows the hash of is not kept in part
    assert left(settings) == []


@pytest.mark.parametrize(
    "broken", [fault[1] for fault in FAULTS[1:5]], ids=[fault[0] for fault in FAULTS[1:5]]
)
def test_the_next_mirror_is_asked(
    make: Callable[..., Settings], one: TinyCore, two: TinyCore, broken: Callable[[TinyCore], object]
) -> None:
    broken(one)
    settings = make(one, two)
    inputs.lock(settings)
    assert len(load_lock(settings.paths.pinned_lock).extension) == 4
    assert left(settings) == ["tc11.lock.toml"]


def test_what_passes_is_tried_again(make: Callable[..., Settings], one: TinyCore) -> None:
    one.mirror.pages[ROOTFS].cut, one.mirror.pages[ROOTFS].times = 2, 1
    one.mirror.pages[f"{TCZ}/a.tcz.dep"].status, one.mirror.pages[f"{TCZ}/a.tcz.dep"].times = 503, 2
    one.mirror.pages[f"{TCZ}/c.tcz"].wait = 0.2
    settings = make(one)
    inputs.lock(settings)
    inputs.fetch(settings)
    assert source_file(settings.paths, settings.profile.core.archives[0]).read_bytes() == b"a root"
    # A cut file is not resumed: the rest might be of another one.
    assert [request.range for request in one.mirror.asked(ROOTFS)] == ["", ""]


def test_redirects_are_followed(make: Callable[..., Settings], one: TinyCore, two: TinyCore) -> None:
    for path in (ROOTFS, f"{TCZ}/a.tcz"):
        one.mirror.pages[path] = Page(location=f"{two.mirror.url}/{path}")
    settings = make(one)
    inputs.lock(settings)
    assert {request.path for request in two.mirror.requests} == {ROOTFS, f"{TCZ}/a.tcz"}


def test_a_missing_top_extension_is_wanted_by_the_profile(
    make: Callable[..., Settings], one: TinyCore
) -> None:
    with pytest.raises(UserError, match=r"^the profile needs nowhere\.tcz, which no mirror has") as caught:
        inputs.lock(make(one, names=("nowhere",)))
    assert "`tcz`" in caught.value.hint
    assert "404" in caught.value.detail


def test_a_mirror_that_fails_is_not_taken_for_one_without_the_extension(
    make: Callable[..., Settings], one: TinyCore, tmp_path: Path
) -> None:
    """A recipe stands in for what no mirror has, never for what could not be asked."""
    (tmp_path / "extensions/c").mkdir(parents=True)
    (tmp_path / "extensions/c/recipe.toml").write_text('[info]\ntitle = "c"\ndescription = "d"\n')
    one.mirror.pages[f"{TCZ}/c.tcz"].status = 503
    settings = make(one)
    with pytest.raises(UserError, match=r"c\.tcz could not be downloaded: .*503"):
        inputs.lock(settings)
    del one.mirror.pages[f"{TCZ}/c.tcz"]
    inputs.lock(settings)
    assert [item.name for item in load_lock(settings.paths.pinned_lock).extension] == ["a", "b", "b2"]


def test_modules_of_another_build_are_warned_of(
    make: Callable[..., Settings], one: TinyCore, capsys: pytest.CaptureFixture[str]
) -> None:
    one.extension(f"zfs-{RELEASE}")
    inputs.lock(make(one, names=("zfs-KERNEL",)))
    assert f"warning: zfs-{RELEASE}.tcz holds modules of Tiny Core's own kernel" in capsys.readouterr().out


def test_without_a_mirror(make: Callable[..., Settings]) -> None:
    with pytest.raises(UserError, match="there is no mirror to download from"):
        inputs.lock(make())


class TestPublishedLater:
    """What a release's file says anew, of what is locked."""

    @pytest.fixture
    def locked(self, make: Callable[..., Settings], one: TinyCore) -> Settings:
        settings = make(one)
        inputs.lock(settings)
        return settings

    def say(self, monkeypatch: pytest.MonkeyPatch, path: str, **hashes: str) -> None:
        monkeypatch.setattr(release, "published", lambda: {path: Published(path, ("X",), **hashes)})

    def test_of_a_file(self, locked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lock has no md5 of it, the cache has."""
        self.say(monkeypatch, ROOTFS, md5=hashlib.md5(b"a root").hexdigest())
        inputs.lock(locked)
        entry = load_lock(locked.paths.pinned_lock).find_file(ROOTFS)
        assert entry is not None
        assert (entry.vouched, entry.published_by) == ("md5", ("X", OWN_MD5))
        monkeypatch.setattr(release, "published", dict)
        inputs.lock(locked)
        entry = load_lock(locked.paths.pinned_lock).find_file(ROOTFS)
        assert entry is not None
        assert entry.published_by == (OWN_MD5,)

    @pytest.mark.parametrize(
        ("path", "what", "hashes"),
        [
            (ROOTFS, "rootfs64.gz has md5", {"md5": ZEROS}),
            (ROOTFS, "the locked sha256 [0-9a-f]+ is not that which is published", {"sha256": ZEROS * 2}),
            (f"{TCZ}/a.tcz", "the locked a.tcz has md5", {"md5": ZEROS}),
        ],
    )
    def test_that_contradicts_the_lock(
        self,
        locked: Settings,
        monkeypatch: pytest.MonkeyPatch,
        path: str,
        what: str,
        hashes: dict[str, str],
    ) -> None:
        before = locked.paths.pinned_lock.read_bytes()
        self.say(monkeypatch, path, **hashes)
        with pytest.raises(UserError, match=what) as caught:
            inputs.lock(locked)
        assert "relock=1" in caught.value.hint
        assert locked.paths.pinned_lock.read_bytes() == before

    def test_is_said_by_list_and_explain(self, locked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        lock = load_lock(locked.paths.pinned_lock)
        assert f"{ROOTFS}: md5 only, published by {OWN_MD5}" in told(locked.profile, lock)
        self.say(monkeypatch, ROOTFS, sha256=ZEROS * 2)
        line = next(line for line in told(locked.profile, lock) if ROOTFS in line)
        assert line.endswith("is not that which is published")

    def test_is_said_by_fetch_and_rebuilds_nothing(
        self, locked: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The lock decides.  No task depends on who vouches for its files."""
        inputs.fetch(locked)
        part = locked.paths.lock_part("archives").read_text()
        assert ROOTFS in part
        assert "published_by = []" in part
        capsys.readouterr()
        self.say(monkeypatch, ROOTFS, sha256=ZEROS * 2)
        inputs.fetch(with_values(locked, offline=True, frozen=True))
        assert f"warning: {ROOTFS}: the locked sha256" in "".join(capsys.readouterr())
        assert locked.paths.lock_part("archives").read_text() == part


class TestPublished:
    """What others publish of a release's files, as `./doit lock` meets it."""

    CONFIG = CHECKOUT.root.parent / "shared/data/config-5.4.3-tinycore64"

    @pytest.fixture(autouse=True)
    def published(self, make: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(release, "published", PUBLISHED)

    def test_a_mirror_with_another_config_is_refused(
        self, make: Callable[..., Settings], one: TinyCore
    ) -> None:
        settings = make(one)
        with pytest.raises(
            UserError, match=r"config-5\.4\.3-tinycore64: no mirror has the file whose sha256"
        ):
            inputs.lock(settings)
        assert not settings.paths.pinned_lock.exists()

    def test_one_lock_is_enough_and_says_what_it_trusts(
        self, make: Callable[..., Settings], one: TinyCore, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With Tiny Core's own config, whose sha256 is published; its kernel's source has no hash."""
        if not self.CONFIG.is_file():
            pytest.skip(f"Tiny Core's own config is not on this machine ({self.CONFIG})")
        one.kernel(self.CONFIG.read_bytes())
        settings = make(one)
        inputs.lock(settings)
        said = capsys.readouterr().out.splitlines()
        assert (
            f"lock: {KERNEL_SOURCE}: nobody publishes a hash of it; learnt now from http://127.0.0.1" in said
        )
        assert f"trust: {KERNEL_SOURCE}: nobody publishes a hash of it" in said
        assert f"trust: {ROOTFS}: md5 only, published by the mirror's own .md5.txt" in said
        assert f"trust: {KERNEL_CONFIG}: its sha256 is published by a public copy of the file, hashed" in said
        inputs.fetch(with_values(settings, offline=True, frozen=True))

    def test_kernel_orgs_archive_stands_in_for_the_source_without_a_hash(
        self, make: Callable[..., Settings], one: TinyCore, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = make(one)
        source = KernelOrgSource(version="5.4.3", mirror=one.mirror.url)
        kernel = replace(settings.profile.kernel, source=source, base="base-x86_64.config")
        settings = replace(settings, profile=replace(settings.profile, kernel=kernel))
        one.mirror.pages[source.path] = Page(b"no kernel")
        with pytest.raises(
            UserError, match="whose sha256 is published by Arch Linux, nixpkgs, Guix, a Yocto"
        ):
            inputs.lock(settings)

    def test_a_path_that_nobody_has_seen_is_said_to_be_assumed(
        self, make: Callable[..., Settings], one: TinyCore
    ) -> None:
        settings = make(one, names=())
        path = release.load("16.x").files["x86"].config
        kernel = replace(settings.profile.kernel, source=HttpSource(path=path), base="base-x86_64.config")
        with pytest.raises(UserError, match=f"not found on the mirror: {path}") as caught:
            inputs.lock(replace(settings, profile=replace(settings.profile, kernel=kernel)))
        assert "tasks/config/releases/16.x.toml assumes this path" in caught.value.hint
