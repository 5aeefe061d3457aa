# SPDX-License-Identifier: MIT
"""A second checkout: the same bytes, nothing to do twice, and each change its own chain.

The compiler cache of the first build serves the second one, so that what is
tested is which tasks run and what comes out, not how long gcc takes.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.provenance import manifest, manifest_schema
from tasks.util.files import sha256_file
from tests.support import oci
from tests.support.built import Outcome, built, copy_checkout, doit
from tests.support.edits import appended, edited
from tests.support.secrets import token
from tests.support.settings import both
from tests.support.stopped import has_started, stopped

FOREIGN = {
    "TZ": "Pacific/Auckland",
    "LANG": "C.UTF-8",
    "USER": "somebody",
    "CFLAGS": "-O0",
    "HOSTNAME": "else",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout to another folder and build its ISO under another umask and time zone."""
    folder = copy_checkout(tmp_path_factory.mktemp("elsewhere") / "a-folder-of-another-name")
    old = os.umask(0o077)
    try:
        done = doit(folder, "iso", "tcz:coreutils", f"profile={built().paths.name}", env=FOREIGN)
    finally:
        os.umask(old)
    assert done.status == 0, done.output
    return folder


@pytest.fixture
def run(clone: Path) -> Callable[..., Outcome]:
    """Run a `./doit` command on the clone's profile."""

    def call(*words: str, env: dict[str, str] | None = None) -> Outcome:
        return doit(clone, *words, f"profile={built().paths.name}", env=env)

    return call


def test_another_folder_time_and_user_settings_give_the_same_iso(clone: Path) -> None:
    here = built()
    there = clone / "artifacts" / here.paths.name
    for path in (
        here.paths.kernel / "vmlinuz64",
        here.paths.kernel / "modules.sha256",
        here.paths.core,
        here.paths.iso,
    ):
        assert sha256_file(path) == sha256_file(there / path.relative_to(here.paths.output)), path.name


def test_another_folder_gives_the_same_manifest(clone: Path) -> None:
    there = manifest.path_of(clone / "artifacts" / built().paths.name / built().paths.iso.name)
    # The one in artifacts/ may be of an older tcbuild that made the same image.
    one, other = (
        json.loads(manifest_schema.to_json(manifest.of_iso(*both(built())))),
        json.loads(there.read_text()),
    )
    for made in (one, other):  # a copy of a checkout is no git checkout
        del made["tcbuild"]["commit"], made["tcbuild"]["dirty"]
    for part in one:
        assert one[part] == other[part], part
    for word in (str(clone), str(built().paths.output), str(built().paths.cache), "somebody"):
        assert word not in there.read_text()


def test_an_image_is_rebuilt_from_its_manifest(clone: Path, tmp_path: Path) -> None:
    made = manifest.path_of(clone / "artifacts" / built().paths.name / built().paths.iso.name)
    done = doit(clone, "rebuild", "--from", str(made), "--out", str(tmp_path / "again"), env=FOREIGN)
    assert done.status == 0, done.output
    assert f"rebuild: equal: {built().paths.iso.name}" in done.output
    again = tmp_path / "again/result"
    assert sha256_file(again / built().paths.iso.name) == sha256_file(built().paths.iso)
    assert sha256_file(again / made.name) == sha256_file(made)


def test_a_rebuild_says_what_is_not_what_it_was(clone: Path, tmp_path: Path) -> None:
    made = manifest.path_of(clone / "artifacts" / built().paths.name / built().paths.iso.name)
    with edited(clone / "kconfig/qemu.config", "# What", "# This"):
        done = doit(clone, "rebuild", "--from", str(made))
    assert done.status == 1
    assert "kconfig/qemu.config differs" in done.output
    other = tmp_path / "other.json"
    gone = {"name": "attr", "version": "0:0.0-1", "sha256": "0" * 64, "origin": "debian: pool/a.deb"}
    found = json.loads(made.read_text())
    found["inputs"] = [one | gone if one["name"] == "attr" else one for one in found["inputs"]]
    other.write_text(json.dumps(found))
    done = doit(clone, "rebuild", "--from", str(other))
    assert done.status == 1
    assert "debian bookworm has any more: attr 0:0.0-1" in done.output
    assert "Traceback" not in done.output
    left = [path.name for path in (clone / "artifacts" / built().paths.name).glob("rebuild-*")]
    assert left == []


def test_the_second_run_does_nothing(run: Callable[..., Outcome]) -> None:
    done = run("iso")
    assert (done.status, done.ran) == (0, [])
    assert "everything is up to date" in done.output


def test_another_output_folder_has_an_up_to_date_of_its_own(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = run("fetch", f"out={tmp_path}/out")
    assert (done.status, done.ran) == (0, ["fetch"]), done.output
    assert (tmp_path / "out" / "lock.toml").is_file()
    assert run("fetch", f"out={tmp_path}/out").ran == []
    assert run("iso").ran == []


@pytest.mark.parametrize(
    ("file", "old", "new", "tasks"),
    [
        ("kconfig/qemu.config", "# What", "# This", ["inputs", "kconfig"]),
        ("tasks/image/boot/isolinux.cfg", "MENU TITLE", "MENU  TITLE", ["inputs", "iso"]),
        ("profiles/apt.toml", "timeout = 3", "timeout = 4  # s", ["inputs", "iso"]),
        ("profiles/apt.toml", '"A Tiny-Core', '"One Tiny-Core', ["inputs", "iso"]),
        ("profiles/apt.toml", "[boot]", "# What boots.\n[boot]", []),
        ("profiles/apt.toml", 'bootcodes = ["cde",', 'bootcodes = ["cde", "noicons",', ["inputs", "iso"]),
        ("profiles/apt.toml", "[boot]", '[system]\nhostname = "hut"\n\n[boot]', ["inputs", "core", "iso"]),
        (
            "profiles/apt.toml",
            "[[extensions]]",
            '[[extensions]]\nname = "coreutils"\n\n[[extensions]]',
            ["fetch", "inputs", "iso"],
        ),
        ("extensions/attr/recipe.toml", "list and set", "set and list", ["inputs", "tcz:attr", "iso"]),
        ("rootfs/files/etc/motd", "", "\n", ["inputs", "rootfs", "core", "iso"]),
        (
            "kconfig/qemu.config",
            "CONFIG_SQUASHFS_XZ=y",
            "CONFIG_SQUASHFS_XZ=y\nCONFIG_LOG_BUF_SHIFT=18",
            ["inputs", "kconfig", "kernel", "iso"],
        ),
        (
            "kconfig/qemu.config",
            "CONFIG_SQUASHFS_XZ=y",
            "CONFIG_SQUASHFS_XZ=y\nCONFIG_UDF_FS=m",
            ["inputs", "kconfig", "kernel", "core", "iso"],
        ),
        ("tasks/initramfs/core.py", "# SPDX", "# A comment.\n# SPDX", []),
        ("tasks/image/mirror.py", "0o755", "0o700", []),
        ("tasks/provenance/manifest.py", "\n\n\n", "\n\n\nOTHER = 1\n", ["inputs", "iso"]),
        ("tasks/kernel/installkernel", "# SPDX", "# A comment.\n# SPDX", ["kernel"]),
    ],
    ids=[
        "comment-of-a-fragment",
        "boot-menu",
        "menu-timeout",
        "description",
        "comment-of-a-profile",
        "bootcode",
        "host-name",
        "extension-list",
        "recipe",
        "init-script",
        "fragment",
        "new-module",
        "comment-of-code",
        "code-of-other-tasks",
        "code-of-the-manifest",
        "code-that-makes-the-same-kernel",
    ],
)
def test_a_change_rebuilds_its_own_chain_and_nothing_else(
    clone: Path, run: Callable[..., Outcome], file: str, old: str, new: str, tasks: list[str]
) -> None:
    with edited(clone / file, old, new):
        done = run("iso")
        assert done.status == 0, done.output
        assert ordered(done.ran) == ordered(tasks)
        assert run("iso").ran == []
    assert ordered(run("iso").ran) == ordered(tasks), "taking the change back rebuilds the same"


def ordered(ran: list[str]) -> list[str]:
    """Return the tasks in the order in which they ran, but for `inputs`, which runs beside the others."""
    return sorted(ran, key=lambda name: name != "inputs")


def test_code_rebuilds_what_it_made_and_the_manifest_names_no_code_that_did_not_run(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    name = built().paths.name
    core, iso = (clone / "artifacts" / name / path.name for path in (built().paths.core, built().paths.iso))
    before = sha256_file(core)
    file = "tasks/initramfs/core.py"
    with edited(clone / file, ".get(member.kind, 0o644)", ".get(member.kind, 0o600)"):
        said = run("explain").output
        assert f"core would run:\n  tcbuild's code changed: {file}\n" in said
        iso.unlink()
        assert run("iso").ran == ["core", "iso"]
        assert sha256_file(core) != before
        made = json.loads(manifest.path_of(iso).read_text())
        named = {one["path"]: one["sha256"] for one in (*made["tcbuild"]["files"], *made["outputs"]["files"])}
        assert named[file] == sha256_file(clone / file)
        assert named["boot/corepure64.gz"] == sha256_file(core)
    assert run("iso").ran == ["core", "iso"]
    assert sha256_file(core) == before


def test_a_moved_checkout_is_up_to_date(clone: Path) -> None:
    profile = f"profile={built().paths.name}"
    moved = clone.rename(clone.with_name("moved"))
    try:
        assert doit(moved, "iso", profile).ran == []
        # As in another CI workspace: a fresh clone, and artifacts/ unpacked from an archive.
        for folder, folders, names in os.walk(moved):
            if folder == f"{moved}/artifacts/{built().paths.name}":
                folders[:] = [name for name in folders if name not in ("linux", "build")]
            for name in names:
                os.utime(os.path.join(folder, name), follow_symlinks=False)
        done = doit(moved, "iso", profile)
        assert (done.status, done.ran) == (0, []), done.output
        database = (moved / "artifacts" / built().paths.name / ".doit.sqlite").read_bytes()
        assert str(clone.parent).encode() not in database
    finally:
        moved.rename(clone)
    assert doit(clone, "iso", profile).ran == []


HTOP = '[info]\ntitle = "h"\ndescription = "d"\n[[origin]]\nkind = "apt"\npackages = ["PACKAGE"]\n'


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (HTOP.replace("PACKAGE", "netbase"), ""),
        (HTOP.replace("PACKAGE", "htpo"), "extensions/htop/recipe.toml: debian bookworm has no package htpo"),
        (HTOP.replace("title", "titel"), "extensions/htop/recipe.toml: unknown key 'info.titel'"),
        ('deps = ["atrr"]\n' + HTOP, "extensions/htop/recipe.toml: there is no recipe for extension 'atrr'"),
    ],
    ids=["sound", "misspelt-package", "unknown-key", "misspelt-dependency"],
)
def test_a_new_recipe_that_the_profile_does_not_use_runs_and_stops_nothing(
    clone: Path, run: Callable[..., Outcome], recipe: str, says: str
) -> None:
    folder = clone / "extensions/htop"
    folder.mkdir()
    failed: list[str] = []
    try:
        (folder / "recipe.toml").write_text(recipe)
        for words in (["iso"], ["tcz"]):
            done = run(*words)
            assert (done.status, done.ran) == (0, []), done.output
        assert (run("explain").status, run("list").status) == (0, 0)
        done = run("tcz:htop")
        assert done.status == (1 if says else 0), done.output
        assert says in done.output and "Traceback" not in done.output
        if says:
            assert says in run("lock").output, "the lock covers all recipes"
            profile = clone / "profiles/apt.toml"
            with edited(profile, "[[extensions]]", '[[extensions]]\nname = "htop"\n\n[[extensions]]'):
                done = run("iso")
            assert done.status == 1
            assert says in done.output
            failed = done.ran
    finally:
        shutil.rmtree(folder)
    assert run("iso").ran == failed


def test_what_an_extension_needs_of_the_kernel_is_missed_before_it_is_compiled(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    image = clone / "artifacts" / built().paths.name / "kernel" / "vmlinuz64"
    before = sha256_file(image)
    profile = clone / "profiles/apt.toml"
    with edited(profile, "[[extensions]]", '[[extensions]]\nname = "containerd"\n\n[[extensions]]'):
        assert sorted(run("kernel").ran) == ["fetch", "inputs", "kconfig:needs"]
        assert run("kernel").ran == []
        with edited(profile, '"containers", ', ""):
            done = run("kernel")
            assert done.status == 1
            assert sorted(done.ran) == ["inputs", "kconfig", "kconfig:needs"]
            assert "iptables needs CONFIG_" in done.output
            assert re.search(
                r"containerd needs .*CONFIG_OVERLAY_FS.*: add the fragment containers", done.output
            )
            assert sha256_file(image) == before
        assert sorted(run("kernel").ran) == ["inputs", "kconfig", "kconfig:needs"]
    assert run("iso").status == 0


def test_a_user_that_the_base_lacks_is_missed_before_the_kernel(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    profile, added = clone / "profiles/apt.toml", '[[system.users]]\nname = "anna"\n\n[boot]'
    with (
        edited(profile, "[boot]", added),
        edited(
            clone / "kconfig/qemu.config", "CONFIG_SQUASHFS_XZ=y", "CONFIG_SQUASHFS_XZ=y\nCONFIG_UDF_FS=m"
        ),
    ):
        done = run("iso", "-n", "1")
    assert done.status == 1
    assert done.ran == ["inputs", "users"]
    assert "user anna is not in the base" in done.output
    assert run("iso").ran == ["inputs"], "it is of the old profile again"


@pytest.mark.parametrize(
    ("task", "target", "program", "names"),
    [
        ("rootfs", "rootfs64.gz", "dpkg-deb", ["rootfs/files/etc/motd", "rootfs/files/etc/new"]),
        (
            "tcz:attr",
            "tcz/attr.tcz",
            "mksquashfs",
            ["extensions/attr/recipe.toml", "extensions/attr/files/new"],
        ),
        ("kconfig", "kconfig/diff.txt", "make", ["kconfig/qemu.config"]),
        ("iso", "tcbuild-apt.iso", "xorriso", ["tasks/image/boot/isolinux.cfg"]),
    ],
    ids=["root", "recipe", "fragment", "boot-menu"],
)
def test_an_input_that_is_edited_while_a_program_reads_it_is_built_by_the_next_run(
    clone: Path, run: Callable[..., Outcome], task: str, target: str, program: str, names: list[str]
) -> None:
    assert run("iso").ran == []
    path = clone / "artifacts/apt" / target
    before = sha256_file(path)
    chain = ["inputs", "iso"] if task == "iso" else [task]  # inputs.manifest.json names the menu
    for _ in range(10):  # a try is over too soon to be seen, now and then
        process = start_without(clone, path, task)
        if has_started(process, program):
            break
        assert process.wait() == 0
    else:
        pytest.fail(f"{task} runs no {program}")
    with ExitStack() as stack:
        with stopped(process):
            for name in names:
                stack.enter_context(appended(clone / name, "# another\n"))
        said, _ = process.communicate(timeout=600)
        told = f"error: {task}: {', '.join(sorted(names))} changed while the task ran"
        assert (process.returncode, said.count(told), said.count("error: ")) == (1, 1, 1), said
        assert run(task).ran == chain, "nothing of it is recorded"
        assert (sha256_file(path) == before) == (task == "kconfig"), "a comment changes no configuration"
        assert run(task).ran == []
    assert run(task).ran == chain
    assert sha256_file(path) == before
    assert run("iso").ran == []


def start_without(clone: Path, target: Path, task: str) -> subprocess.Popen[str]:
    """Remove a target and what spares its task the work, and start the task."""
    target.unlink()
    shutil.rmtree(clone / "artifacts/apt/core-parts/packages", ignore_errors=True)
    return subprocess.Popen(
        ["./doit", task, "profile=apt"],
        cwd=clone,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_image_tar_or_the_list_of_them_rebuilds_iso_and_disk_alone(
    clone: Path, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    tar = tmp_path / "tool.tar"
    tar.write_bytes(oci.tar(oci.oci_image([oci.tar({"a": b"1"})])))
    profile = clone / "profiles" / f"{built().paths.name}.toml"
    image = f'[[images]]\nname = "localhost/tool:1"\nsource = {{ kind = "file", path = "{tar}" }}\n'
    with edited(profile, "[[extensions]]", f'[[extensions]]\nname = "containerd"\n\n{image}\n[[extensions]]'):
        done = run("iso", "disk")
        assert done.status == 0, done.output
        assert "images" in done.ran
        assert set(done.ran[-2:]) == {"iso", "disk"}
        assert "warning: containerd needs the bootcode noembed" in done.output
        assert run("iso", "disk").ran == []
        tar.write_bytes(oci.tar(oci.oci_image([oci.tar({"a": b"2"})])))
        assert sorted(run("iso", "disk").ran) == ["disk", "images", "inputs", "iso"]
        tar.touch()
        assert run("iso", "disk").ran == []
        with edited(profile, "localhost/tool:1", "localhost/tool:2"):
            assert sorted(run("iso", "disk").ran) == ["disk", "fetch", "images", "inputs", "iso"]
        assert sorted(run("iso", "disk").ran) == ["disk", "fetch", "images", "inputs", "iso"]
        tar.write_bytes(b"no archive")
        done = run("iso")
        assert done.status != 0
        assert f"image archive {tar}: it is damaged, cut short or no tar archive" in done.output
        with edited(profile, 'name = "containerd"', 'name = "coreutils"'):
            done = run("iso")
            assert "images (localhost/tool:1) but no extension that imports them" in done.output
            assert (done.status, done.ran) == (1, [])
        tar.unlink()
        assert f"{tar} does not exist" in run("iso").output
    done = run("iso")
    assert done.status == 0, done.output
    assert set(done.ran) == {"fetch", "inputs", "iso"}, "without images again"


def test_ctrl_c_in_the_kernel_build_then_the_next_run_continues(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    image = clone / "artifacts" / built().paths.name / "kernel" / "vmlinuz64"
    before = sha256_file(image)
    with edited(
        clone / "kconfig/qemu.config", "CONFIG_SQUASHFS_XZ=y", "CONFIG_SQUASHFS_XZ=y\nCONFIG_UDF_FS=y"
    ):
        log = clone / "artifacts" / built().paths.name / "logs" / "kernel.log"
        log.unlink()
        process = subprocess.Popen(
            ["./doit", "kernel", f"profile={built().paths.name}"],
            cwd=clone,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not (log.exists() and "  CC " in log.read_text()):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "run the same command again" in said
        assert "Traceback" not in said
        assert sha256_file(image) == before, "the old kernel stays until a new one is proved"
        compiled = log.read_text().count("  CC ")
        done = run("kernel")
        assert done.status == 0, done.output
        assert done.ran == ["kernel"], "the proven configuration of the cut run is kept"
        assert compiled > 0
        assert sha256_file(image) != before
    assert run("iso").status == 0
    assert sha256_file(image) == before


def test_a_token_in_a_profile_stops_the_build_and_leaves_nothing(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    """The error names the key, nothing that is written has the token, and without it all is as before."""
    secret, there = token(), clone / "artifacts" / built().paths.name
    before = {path: path.read_bytes() for path in there.glob("*.manifest.json")}
    assert before
    with edited(clone / "profiles/apt.toml", '"A Tiny', f'"{secret} A Tiny'):
        assert "  description: changed" in run("explain").output
        done = run("iso")
        assert (done.status != 0, done.ran) == (True, ["inputs"]), done.output
        assert done.output.count("error: ") == 1
        said = f"profile {built().paths.name} holds what looks like a secret: description: a GitHub token"
        assert said in done.output
        assert secret not in done.output
    assert {path: path.read_bytes() for path in before} == before
    for path in (*there.glob("*"), *there.glob("runs/*"), *there.glob("logs/*")):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert run("iso").ran == ["inputs"]
    assert run("iso").ran == []


def test_the_early_manifest_is_made_again(clone: Path, run: Callable[..., Outcome]) -> None:
    early = clone / "artifacts" / built().paths.name / "inputs.manifest.json"
    before = early.read_bytes()
    early.unlink()
    assert run("iso").ran == ["inputs"]
    assert early.read_bytes() == before
    assert "kernel" not in run("explain").output


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (
            "kconfig/ext3-xattr.config",
            "CONFIG_EXT3_FS=y",
            "CONFIG_EXT3_FS=y\nCONFIG_EXT3_FS_XATTR=y",
            ["EXT3_FS_XATTR", "4.3", "EXT3_FS_SECURITY"],
        ),
        ("profiles/apt.toml", "[kernel]", "[kernel", ["apt.toml", "valid TOML"]),
        ("profiles/apt.toml", "[boot]", "[boot]\ntimeuot = 3", ["apt.toml", "boot.timeuot", "timeout"]),
        ("profiles/apt.toml", "timeout = 3", 'timeout = "3"', ["boot.timeout", "an integer", "'3'"]),
        ("profiles/apt.toml", '"qemu", ', '"qemu", "nothing", ', ["nothing", "ext3-xattr"]),
        ("profiles/apt.toml", '"attr"', '"att"', ["no recipe", "attr"]),
    ],
    ids=["unknown-symbol", "bad-toml", "unknown-key", "wrong-type", "no-fragment", "no-recipe"],
)
def test_bad_input_is_explained_and_leaves_what_was_built(
    clone: Path, run: Callable[..., Outcome], file: str, old: str, new: str, says: list[str]
) -> None:
    image = clone / "artifacts" / built().paths.name / "kernel" / "vmlinuz64"
    before = sha256_file(image)
    with edited(clone / file, old, new):
        done = run("iso")
    assert done.status != 0
    assert "Traceback" not in done.output
    assert done.output.count("error: ") == 1
    for word in says:
        assert word in done.output
    assert sha256_file(image) == before
    assert run("iso").status == 0


def test_a_patch_rebuilds_the_kernel_and_taking_it_back_does_too(
    clone: Path, run: Callable[..., Outcome]
) -> None:
    linux = clone / "artifacts" / built().paths.name / "linux"
    image = clone / "artifacts" / built().paths.name / "kernel" / "vmlinuz64"
    before = sha256_file(image)
    old = (linux / "init/main.c").read_text()
    new = old.replace('pr_info("Run %s as init process', 'pr_info("Start %s as init process')
    assert old != new
    series = clone / "patches" / "words"
    series.mkdir(parents=True)
    (series / "series").write_text("words.patch\n")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), "a/init/main.c", "b/init/main.c"
    )
    (series / "words.patch").write_text("".join(lines))
    # Kconfig reads no C file.
    chain = ["linux", "kernel", "iso"]
    with edited(clone / "profiles/apt.toml", "[kernel]", '[kernel]\npatches = "words"'):
        done = run("iso")
        assert done.status == 0, done.output
        assert "inputs" in done.ran, "the record has the profile, which names the series"
        assert [task for task in done.ran if task != "inputs"] == chain
        compiled = (clone / "artifacts" / built().paths.name / "logs/kernel.log").read_text()
        # The decompressor is told anew where things lie in vmlinux (its voffset.h).
        own = re.findall(r"  CC +(?!arch/x86/boot/)(\S+\.o)", compiled)
        assert own == ["init/main.o"], "one C file"
        assert run("iso").ran == []
        with edited(series / "words.patch", "Start %s", "Launch %s"):
            assert ordered(run("iso").ran) == ["inputs", *chain], "the record has the patch"
    assert [task for task in run("iso").ran if task != "inputs"] == chain
    assert sha256_file(image) == before


def test_a_patch_that_does_not_apply_is_named(clone: Path, run: Callable[..., Outcome]) -> None:
    series = clone / "patches" / "trial"
    series.mkdir(parents=True)
    (series / "series").write_text("wrong.patch\n")
    (series / "wrong.patch").write_text("--- a/Makefile\n+++ b/Makefile\n@@ -1,1 +1,1 @@\n-no\n+yes\n")
    with edited(clone / "profiles/apt.toml", "[kernel]", '[kernel]\npatches = "trial"'):
        done = run("kernel")
    assert done.status != 0
    assert "wrong.patch does not apply" in done.output
    assert "Traceback" not in done.output
    assert run("iso").status == 0
