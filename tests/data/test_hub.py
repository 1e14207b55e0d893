"""Data sets of the Hub: copies from a real server on the loopback interface, and rows from files of every form."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub_server import COMMIT, HubServer, nowhere, serving, use_hub
from hybrid_bench.data.hub import (
    NotOnTheHubError,
    arrow_cache,
    cached_if_unreachable,
    configurations,
    files_of,
    mapped,
    patterns,
    snapshot,
)
from hybrid_bench.errors import DataError

ROWS = [{"id": "a", "text": "ä\u2028"}, {"id": "b", "text": ""}]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of huggingface_hub and `datasets`; nobody answers."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "caches" / "datasets")
    use_hub(monkeypatch, nowhere(), tmp_path / "caches" / "hub")
    return tmp_path / "caches"


def lay_out(folder: Path, configs: Any, *names: str) -> Path:
    """A data set with this description and these files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n", encoding="utf-8")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


# -- copies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the Hub has."""
    configs = [{"config_name": "rivers", "data_files": "rivers/*.csv"}, {"config_name": "lakes", "data_files": "l.csv"}]
    return lay_out(tmp_path / "on-the-hub", configs, "rivers/1.csv", "rivers/2.csv", "l.csv", "photo.png")


@pytest.fixture
def hub(folder: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving(folder, "org/waters") as server:
        use_hub(monkeypatch, server.endpoint, caches / "hub")
        yield server


def copy(*configs: str, revision: str = COMMIT, name: str = "org/waters") -> Path:
    return snapshot(
        name,
        revision,
        lambda folder: [pattern for config in configs for pattern in patterns(folder, config, "test")],
        called="the waters",
        otherwise="swim",
    )


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(*configs: str, revision: str = COMMIT) -> str:
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        copy(*configs, revision=revision)
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_what_is_needed_is_copied_and_only_once(
    folder: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder, "org/waters") as hub:
        use_hub(monkeypatch, hub.endpoint, caches / "hub")
        first = copy("rivers")
        assert first.name == COMMIT
        assert names(first) == hub.downloaded() == {"README.md", "rivers/1.csv", "rivers/2.csv"}
        assert copy("rivers", revision="main") == copy("rivers", revision="") == first
        assert not hub.downloaded()
        for variable in ("HF_HUB_OFFLINE", "HYBRID_BENCH_OFFLINE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, "1")
                assert copy("rivers") == first
                assert not hub.asked
                assert refused("rivers", "lakes").startswith(
                    f"cannot get the waters from {hub.endpoint}: offline is set ({variable}=1), and the cache of"
                )
    # The server is gone; a branch stands for the commit that it stood for.
    assert copy("rivers") == copy("rivers", revision="main") == first
    assert "it cannot be reached (" in refused("rivers", "lakes")


@pytest.mark.parametrize("offline", ["", "HF_HUB_OFFLINE", "HYBRID_BENCH_OFFLINE"])
@pytest.mark.parametrize("revision", ["", "main", COMMIT])
def test_without_a_way_to_the_hub_the_error_comes_soon(
    offline: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv(offline, "yes")
    message = refused("rivers", revision=revision)
    endpoint = huggingface_hub.constants.ENDPOINT
    reason = f"offline is set ({offline}=yes)" if offline else "it cannot be reached ("
    assert message.startswith(f"cannot get the waters from {endpoint}: {reason}")
    assert message.endswith("), and the cache of huggingface_hub has no complete copy; swim")
    assert offline or "refused" in message


@pytest.mark.parametrize("offline", ["", "HF_HUB_OFFLINE", "HYBRID_BENCH_OFFLINE"])
def test_loaders_of_others_do_not_try_for_long(offline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` by itself takes half a minute to find that nobody answers."""
    if offline:
        monkeypatch.setenv(offline, "1")
    start = time.monotonic()
    with cached_if_unreachable("org/waters", COMMIT) as reason, pytest.raises(ConnectionError):
        datasets.load_dataset("org/waters", revision=COMMIT)
    assert time.monotonic() - start < 5
    assert reason.startswith(f"offline is set ({offline}=1)" if offline else "it cannot be reached (")
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", ["org/waters", "org/fires", "org/waters/x"])
@pytest.mark.usefixtures("hub")
def test_loaders_of_others_ask_a_hub_that_answers(name: str) -> None:
    """Also one that does not have the data set: the loader's own message says more."""
    with cached_if_unreachable(name, "main") as reason:
        assert (reason, huggingface_hub.constants.HF_HUB_OFFLINE) == ("", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "org/fires"}, "the waters: the Hub has no dataset 'org/fires', or it is private"),
        ({"name": "org/waters/x"}, "the waters: the Hub has no dataset 'org/waters/x'"),
        (
            {"revision": "v9"},
            "the waters: the Hub has the dataset, but no branch, tag or commit 'v9': give another, or sw",
        ),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(NotOnTheHubError) as caught:
        copy("rivers", **arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_lacks_files_or_is_refused(hub: HubServer) -> None:
    assert refused("seas") == f"cannot get the waters from {hub.endpoint}: it has no seas/test*; swim"
    with pytest.raises(DataError, match="not these"):
        snapshot("org/waters", "", _refuse, called="", otherwise="")
    assert hub.downloaded() == {"README.md"}


def _refuse(folder: Path) -> list[str]:
    raise DataError("not these")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, "GatedRepo"), "the waters: the Hub has no dataset 'org/waters', or it is private (`hf auth login`)"),
        ((410, ""), "cannot get the waters from {}: Client error '410 Gone' for url '{}/datasets/org/waters/resolve/"),
    ],
)
def test_files_that_the_hub_lists_and_does_not_give(hub: HubServer, answer: tuple[int, str], message: str) -> None:
    hub.withheld["l.csv"] = answer
    assert refused("lakes").startswith(message.replace("{}", hub.endpoint))


# -- which files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"data_files": "a.csv"}, ["a.csv"]),
        ({"data_files": ["a.csv", "./data/b.csv"]}, ["a.csv", "data/b.csv"]),
        ({"data_files": [{"split": "test", "path": ["a.csv"]}, {"split": "train", "path": "c.csv"}]}, ["a.csv"]),
        ({"data_files": {"test": "a.csv", "train": "c.csv"}}, ["a.csv"]),
        ({"data_files": [{"split": "dev", "path": "./a.csv"}]}, ["a.csv"]),
        ({"data_files": "data/*"}, ["data/b.csv"]),
        ({"data_files": "data/**"}, ["data/b.csv", "data/deep/d.csv"]),
        ({"data_files": "[ab].csv"}, ["a.csv"]),
        ({"data_files": "deep/*.csv", "data_dir": "data"}, ["data/deep/d.csv"]),
        ({"data_dir": "usual"}, ["usual/test-0.csv", "usual/test-1.csv"]),
        ({"config_name": "other"}, ["x/test.csv"]),
    ],
)
def test_where_a_description_says_that_files_are(tmp_path: Path, entry: dict[str, Any], expected: list[str]) -> None:
    there = ["a.csv", "c.csv", "data/b.csv", "data/.hidden", "data/deep/d.csv", "x/test.csv", "x/train.csv"]
    configs = [{"config_name": "x"} | entry, {"config_name": "y", "data_files": "c.csv"}]
    folder = lay_out(tmp_path, configs, *there, "usual/test-1.csv", "usual/test-0.csv", "usual/train.csv")
    assert files_of(folder, "x", "test") == [folder / name for name in expected]
    (folder / "README.md").unlink()
    assert files_of(folder, "x", "test") == [folder / "x" / "test.csv"]


@pytest.mark.parametrize(
    ("data_files", "message"),
    [
        (
            [{"split": "a", "path": "a"}, {"split": "b", "path": "b"}],
            "has the splits a, b; call the one to be measured",
        ),
        ([{"split": "test", "path": 7}], "should have paths as data_files, found 7"),
        (["a.csv", 7], 'should have paths as data_files, found ["a.csv", 7]'),
        ("/a.csv", 'should have paths within its folder as data_files, found "/a.csv"'),
        ("../a.csv", "should have paths within its folder"),
        ([""], "should have paths within its folder"),
        ("https://127.0.0.1/a.csv", "should have paths within its folder"),
    ],
)
def test_a_description_that_leads_nowhere(tmp_path: Path, data_files: Any, message: str) -> None:
    lay_out(tmp_path, [{"config_name": "x", "data_files": data_files}], "a.csv")
    with pytest.raises(DataError) as caught:
        files_of(tmp_path, "x", "test")
    assert str(caught.value).startswith(f"{tmp_path / 'README.md'}: 'x' {message}")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    lay_out(tmp_path, [{"config_name": "x", "data_files": ["a.csv", "b/*"]}], "b/c/d")
    with pytest.raises(DataError) as caught:
        files_of(tmp_path, "x", "test")
    assert str(caught.value) == f"{tmp_path} has no files of 'x': looked for a.csv and b/*"


def test_what_is_described_is_read_again_when_it_changes(tmp_path: Path) -> None:
    assert configurations(tmp_path) == {}
    lay_out(tmp_path, [{"config_name": "x", "data_files": "a.csv"}, {"config_name": 7}, {}])
    assert configurations(tmp_path) == {
        "x": {"config_name": "x", "data_files": "a.csv"},
        "7": {"config_name": 7},
    }
    lay_out(tmp_path, None)
    assert configurations(tmp_path) == {}


@pytest.mark.parametrize("head", ["configs: [", "configs: 7", "configs: [7]"])
def test_a_description_that_cannot_be_read(tmp_path: Path, head: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(DataError, match=r"README\.md: its YAML cannot be read: ") as caught:
        configurations(tmp_path)
    assert "\n" not in str(caught.value)


# -- rows -----------------------------------------------------------------------------------------------------------


def as_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Rows in the form that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_bytes(gzip.compress(as_lines(rows)) if path.suffix == ".gz" else as_lines(rows))
    return path


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.gz", "json", "json.gz"])
def test_rows_are_mapped_from_the_cache(tmp_path: Path, caches: Path, ending: str) -> None:
    files = [written(tmp_path / f"{number}.{ending}", [row]) for number, row in enumerate(ROWS)]
    data = mapped("rows", files)
    assert list(data) == ROWS
    assert data.cache_files
    assert all(Path(file["filename"]).is_relative_to(caches / "datasets" / "hybrid_bench") for file in data.cache_files)


def test_columns_that_hold_strings(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", [{"id": "1", "title": None}, {"id": "2"}])
    assert list(mapped("rows", [file], strings=("id", "title"))) == [{"id": i, "title": None} for i in ("1", "2")]
    with pytest.raises(DataError, match="rows: cannot be read: "):
        mapped("rows", [file], strings=("id",))


def test_values_of_several_forms_in_one_column(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"any": ["a"]}, {"any": {"a": 1}}]
    assert list(mapped("rows", [written(tmp_path / "a.jsonl", rows)])) == rows


def test_a_file_that_was_replaced_is_read_anew_even_if_its_time_is_the_same(tmp_path: Path) -> None:
    for rows in (ROWS, ROWS[1:]):
        file = written(tmp_path / "x.jsonl", rows)
        os.utime(file, ns=(10**18, 10**18))
        assert list(mapped("rows", [file])) == rows


def test_what_stands_for_the_content_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "x.parquet", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr("hybrid_bench.data.hub.sha256_once", None)  # nothing is hashed
        before = mapped("rows", [file], key="commit 1").cache_files
        assert mapped("rows", [file], key="commit 1").cache_files == before
        assert mapped("rows", [file], key="commit 2").cache_files != before
    assert mapped("rows", [file]).cache_files != before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.csv"], "rows: a.csv and the like are neither Parquet nor JSON lines"),
        (["a.jsonl", "b.parquet"], "rows: a.jsonl and the like are neither"),
        (["no.parquet"], r"cannot read .*no\.parquet: Parquet magic bytes not found"),
        (["no.jsonl"], r".*no\.jsonl:1: not JSON \("),
        (["no.jsonl.gz"], r"cannot read .*no\.jsonl\.gz: Not a gz"),
        (["gone.parquet"], "cannot read .*gone.parquet: No such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, names: list[str], message: str) -> None:
    for name in ("no.parquet", "no.jsonl", "no.jsonl.gz"):
        (tmp_path / name).write_bytes(b"PAR1 this is none")
    written(tmp_path / "a.jsonl", ROWS)
    written(tmp_path / "b.parquet", ROWS)
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=f"^{message}") as caught:
        mapped("rows", [tmp_path / name for name in names])
    assert "\n" not in str(caught.value)


def test_each_content_has_a_place_of_its_own(caches: Path) -> None:
    assert arrow_cache("0123456789abcdef" * 4) == caches / "datasets" / "hybrid_bench" / "0123456789abcdef"
    assert arrow_cache("0" * 64) != arrow_cache("1" * 64)
