"""Published results: every number as it was printed, and references that name them."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from hybrid_bench.data.published import PREFIX, PUBLICATIONS, PublishedValue, is_published, published_systems
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from report_cases import printed_of

ROOT = Path(__file__).parents[2]
FILE = ROOT / "results" / "published" / "elmahdy2024.csv"
SYSTEMS = ["XLM-R X-X-mono", "XLM-R X-Y", "XLM-R hybrid", "LaBSE X-X-mono", "LaBSE X-Y", "LaBSE hybrid"]
#: What the reference calls otherwise.
COLLECTIONS = {"MIRACL-dev": "MIRACL"}
METRICS = {"rank_distance": "bias_rank_distance"}
AMBIGUOUS = " (printed ambiguously: the value that gives the printed mean)"
COLUMNS = ["system", "collection", "setting", "query_language", "metric", "value", "source"]


@pytest.fixture(scope="module")
def reference() -> Path:
    """The paper's tables as they were keyed, beside the repository."""
    folder = ROOT.parent / "shared" / "reference"
    if not (folder / "scores.csv").is_file():
        message = f"no reference in {folder}"
        if os.environ.get("HYBRID_BENCH_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def expected_rows(reference: Path) -> Iterator[tuple[str, ...]]:
    """Every row of the reference in the form of the file here; numbers with a zero before the point."""
    for row in read(reference / "scores.csv"):
        yield (
            f"{row['backbone']} {row['sampling']}",
            COLLECTIONS.get(row["dataset"], row["dataset"]),
            row["setting"],
            row["query_language"],
            METRICS.get(row["metric"], row["metric"]),
            f"0{row['value']}" if row["value"].startswith(".") else row["value"],
            f"Table {row['table']}" + (AMBIGUOUS if row["note"].startswith("copies disagree") else ""),
        )
    for row in read(reference / "sizes.csv"):
        for metric in ("queries", "candidates"):
            collection = COLLECTIONS.get(row["dataset"], row["dataset"])
            yield ("", collection, "data", row["language"], metric, row[metric], f"Table {row['table']}")
    for row in read(reference / "training.csv"):
        for language in row["languages"].split():
            yield ("", row["dataset"], "training", language, "pairs", row["size_per_language"], "Table 9")


def test_the_file_is_the_reference_row_for_row(reference: Path) -> None:
    rows = read(FILE)
    assert list(rows[0]) == COLUMNS
    assert sorted(tuple(row[column] for column in COLUMNS) for row in rows) == sorted(expected_rows(reference))
    assert len(rows) == 1092 + 2 * 34 + 63


def test_every_number_is_found_again() -> None:
    """By system, collection, setting, language and metric; of two tables' numbers that with more digits."""
    systems = {system.name: system for system in published_systems("published:elmahdy2024")}
    assert list(systems) == SYSTEMS
    printed: dict[tuple[str, ...], list[str]] = {}
    for row in read(FILE):
        if row["system"]:
            printed.setdefault(tuple(row[column] for column in COLUMNS[:5]), []).append(row["value"])
    for (system, collection, setting, language, metric), values in printed.items():
        found = printed_of(systems[system], collection, Setting(setting), language, metric)
        assert found is not None
        digits = max(len(value.partition(".")[2]) for value in values)
        assert found.printed in values
        assert (found.decimals, found.value) == (digits, float(found.printed))
        for value in values:  # the finer rounds to the coarser, but for one misprint of the paper
            apart = abs(Decimal(value) - Decimal(found.printed))
            misprint = (system, collection, setting, metric) == ("XLM-R X-X-mono", "XQuAD-R", "multilingual", "map")
            half = Decimal(10) ** -len(value.partition(".")[2]) / 2
            assert apart <= half * (2 if misprint else 1)
    assert sum(len(system.values) for system in systems.values()) == len(printed)


@pytest.mark.parametrize(
    ("system", "place", "printed", "source"),
    [
        ("xlm-r-hybrid", ("XQuAD-R", Setting.MONOLINGUAL, "mean", "map"), "0.7977", "Table 3"),
        ("labse-x-y", ("MLQA-R", Setting.MULTILINGUAL, "mean", "bias_rank_distance"), "198.3", "Table 8"),
        ("xlm-r-x-x-mono", ("XQuAD-R", Setting.MULTILINGUAL, "mean", "map"), "0.5479", "Table 3"),
        ("labse-hybrid", ("XQuAD-R", Setting.MONOLINGUAL, "el", "map"), "0.8121", "Table 5 (printed ambiguously"),
        ("labse-x-x-mono", ("MIRACL", Setting.MONOLINGUAL, "median", "recall_at_100"), "0.822", "Table 13"),
    ],
)
def test_numbers_as_they_stand_in_the_paper(
    system: str, place: tuple[str, Setting, str, str], printed: str, source: str
) -> None:
    (found,) = published_systems(f"published:elmahdy2024/{system}")
    value = printed_of(found, *place)
    assert value is not None
    assert value.printed == printed
    assert value.source.partition(":")[0] == source
    assert (*value[:2], value.query_language or value.level, value.metric) == place
    assert (found.slug, found.label) == (system, f"{found.name} (reported)")


def test_what_was_not_printed_is_none() -> None:
    for system in published_systems("published:elmahdy2024"):
        assert printed_of(system, "XQuAD-R", Setting.MONOLINGUAL, "mean", "ndcg_at_10") is None
        assert printed_of(system, "XQuAD-R", Setting.MULTILINGUAL, "ja", "map") is None
        assert printed_of(system, "MIRACL", Setting.MULTILINGUAL, "mean", "ndcg_at_10") is None
        assert not any(key[1] not in list(Setting) for key in system.values)  # sizes and training data are no results


def test_decimals_are_those_that_were_printed() -> None:
    value = PublishedValue("C", Setting.MONOLINGUAL, "mean", "", "map", "0.8120", "Table 1")
    assert (value.value, value.decimals) == (0.812, 4)
    assert value._replace(printed="410").decimals == 0


# -- references ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("published:nonsense", "no publication is called 'nonsense': known: elmahdy2024"),
        ("published:", "no publication is called '': known: elmahdy2024"),
        ("published:elmahdy", "no publication is called 'elmahdy': did you mean 'elmahdy2024'?"),
        ("published:elmahdy2024/labse-hybird", "published:elmahdy2024 has no system 'labse-hybird': did you mean "),
        ("published:elmahdy2024/nonsense", "published:elmahdy2024 has no system 'nonsense': known: labse-hybrid, "),
    ],
)
def test_references_that_name_nothing(reference: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        published_systems(reference)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_is_a_reference() -> None:
    assert is_published("published:elmahdy2024")
    assert is_published(Path("published:elmahdy2024/labse-hybrid"))
    assert not is_published("runs/published")
    assert PREFIX == "published:"


def test_publications_can_be_cited() -> None:
    for key, publication in PUBLICATIONS.items():
        assert publication.key == key
        assert (ROOT / "results" / "published" / f"{key}.csv").is_file()
        assert publication.citation.startswith("Reported: ")
        assert publication.identifier in publication.citation
        number = publication.identifier.removeprefix("arXiv ")
        assert f"{{{number}}}" in publication.bibtex
        assert publication.bibtex.count("{") == publication.bibtex.count("}")


def test_a_wheel_carries_them_inside_the_package(tmp_path: Path) -> None:
    """Laid out as in a wheel, without the repository around it, the same systems are read from inside the package."""
    package = tmp_path / "hybrid_bench"
    for name in ("data/published", "errors", "languages"):
        module = package / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "hybrid_bench" / f"{name}.py", module)
        (module.parent / "__init__.py").write_text("")
    program = (
        "from hybrid_bench.data import published as p; print(p._FOLDER); "
        "print([s.slug for s in p.published_systems('published:elmahdy2024')], sep='')"
    )

    def ask() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    missing = ask()
    assert missing.returncode == 1
    assert "cannot read published results " in missing.stderr
    assert missing.stderr.endswith("install the package again\n")
    shutil.copytree(ROOT / "results" / "published", package / "published_results")
    done = ask()
    assert done.stderr == ""
    folder, slugs = done.stdout.splitlines()
    assert Path(folder) == package / "published_results"
    assert slugs == str([system.slug for system in published_systems("published:elmahdy2024")])
    # and the build puts them there
    assert '"results/published" = "hybrid_bench/published_results"' in (ROOT / "pyproject.toml").read_text()
