"""Where a page gets onnxruntime-web from: a folder, an address, or npm, whose archive is looked at with care."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from distill.deployment import web_runtime
from distill.deployment.npm import NpmUnavailableError
from distill.deployment.web_runtime import BESIDE, SCRIPT, VERSION, WASM, WebRuntime, find_runtime
from students.errors import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "symdistill" / f"onnxruntime-web-{VERSION}"


def install_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program of that name on the path, alone."""
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    npm = programs / "npm"
    npm.write_text(f"#!/bin/sh\n{body}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))


def pack(archive: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def write_files(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / SCRIPT).write_bytes(b"script")
    (folder / WASM).write_bytes(b"wasm")
    return folder


@pytest.mark.parametrize("within", ["", "dist", "package/dist", "node_modules/onnxruntime-web/dist"])
def test_a_folder_is_copied_from(within: str, tmp_path: Path) -> None:
    write_files(tmp_path / "given" / within)
    runtime = find_runtime(tmp_path / "given")
    assert (runtime.script, runtime.wasm, runtime.origin) == (*BESIDE.values(), "")
    page = tmp_path / "page"
    page.mkdir()
    runtime.copy_to(page)
    assert (page / BESIDE[SCRIPT]).read_bytes() == b"script"
    assert (page / BESIDE[WASM]).read_bytes() == b"wasm"


def test_an_address_is_left_alone(tmp_path: Path) -> None:
    for address in ("https://host.example:8080/a/ort@1.30.0/dist", "https://host.example:8080/a/ort@1.30.0/dist/"):
        runtime = find_runtime(address)
        assert runtime.script == f"https://host.example:8080/a/ort@1.30.0/dist/{SCRIPT}"
        assert runtime.origin == "https://host.example:8080"
        runtime.copy_to(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["ftp://host/", "https://", "https://host/a b/", "https://host/;script-src *", "x:y"])
def test_what_is_no_address_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="no address of a folder"):
        find_runtime(place)


def test_npm_is_asked_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {SCRIPT: b"script", WASM: b"wasm"}
    monkeypatch.setattr(
        web_runtime, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    )
    members = {f"package/dist/{name}": content for name, content in contents.items()}
    pack(tmp_path / "given.tgz", members | {"../../escaped": b"no", "package/dist/ort.js": b"other"})
    install_npm(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/asked\n/bin/cp {tmp_path}/given.tgz .')
    for _ in range(2):
        assert find_runtime() == WebRuntime(cache)
    assert (tmp_path / "asked").read_text() == f"pack --loglevel=error --ignore-scripts onnxruntime-web@{VERSION}\n"
    assert sorted(os.listdir(cache)) == sorted(contents)
    (cache / WASM).write_bytes(b"damaged")
    assert find_runtime() == WebRuntime(cache)
    assert (cache / WASM).read_bytes() == b"wasm", "what is damaged is fetched again"
    assert not list(tmp_path.rglob("escaped"))


def test_another_archive_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path / "given.tgz", {f"package/dist/{SCRIPT}": b"other", f"package/dist/{WASM}": b"other"})
    install_npm(tmp_path, monkeypatch, f"/bin/cp {tmp_path}/given.tgz .")
    with pytest.raises(UserError, match=f"isn't onnxruntime-web {VERSION}") as error:
        find_runtime()
    assert not isinstance(error.value, NpmUnavailableError), "npm has done its part"
    pack(tmp_path / "given.tgz", {"package/nothing": b""})
    with pytest.raises(UserError, match=f"isn't onnxruntime-web {VERSION}"):
        find_runtime()
    assert not cache.exists()


def test_without_npm_or_network_another_way_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "npm pack onnxruntime-web@.*--web-runtime DIR"
    install_npm(tmp_path, monkeypatch, "echo 'npm error: no network' >&2; exit 1")
    with pytest.raises(NpmUnavailableError, match=f"npm can't fetch .*no network.*{elsewhere}"):
        find_runtime()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NpmUnavailableError, match=f"there is no npm here.*{elsewhere}"):
        find_runtime()
    assert not cache.exists()


def test_a_version_that_does_not_exist_is_no_fault_of_npm(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_npm(tmp_path, monkeypatch, "echo 'npm error code ETARGET' >&2; exit 1")
    with pytest.raises(UserError, match=f"npm knows no onnxruntime-web {VERSION}; .*--web-runtime DIR") as error:
        find_runtime()
    assert not isinstance(error.value, NpmUnavailableError)
