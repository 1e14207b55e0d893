"""Reports: what stands beside the tables of `tables`, and comparisons as they are printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from hybrid_bench.comparisons import CLUSTERS, LEVEL, Difference, against_baseline, align, all_pairs
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.report import compare, report
from hybrid_bench.runs import find_runs
from hybrid_bench.tables import MAIN, main_frame, render
from saved_runs import BM25, CHAR_NGRAM, WORD_COUNTS, change_signature, change_table, copy_of, folder_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"
FEW: dict[str, Any] = {"draws": 300, "seed": 1}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), [BM25, CHAR_NGRAM, WORD_COUNTS])


@pytest.fixture
def two(output: Path) -> list[Path]:
    return [folder_of(output, BM25), folder_of(output, CHAR_NGRAM)]


# -- tables and notes ---------------------------------------------------------------------------------------------


def test_report_tells_what_the_means_are_over(output: Path) -> None:
    table, _, notes = report([output]).partition("\n\n")
    assert table == render(main_frame(find_runs([output])), MAIN, "markdown")
    assert notes.endswith("\nHybridDemo: 3 monolingual, 6 cross-lingual, 3 multilingual subsets.\n")
    assert "the median is each subset's" in notes
    latex = report([output], "latex").splitlines()
    assert [line.removeprefix("% ") for line in latex[:2]] == notes.splitlines()
    assert latex[2] == r"\begin{tabular}{llrrrrr}"


def test_report_says_where_the_means_are_over_other_subsets(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    save_runs(copy, [BM25], [PAIRS], ["de"], settings=["mono"], passage="sentence+context")
    assert report([copy]).endswith(
        "HybridDemo: 1/3 monolingual, 0/6 cross-lingual, 0/3 multilingual subsets "
        "(the runs do not cover the same subsets and pools: such means cannot be compared, and are not marked).\n"
    )


# -- comparisons --------------------------------------------------------------------------------------------------

HEADS = ["Run", "Mean", "Difference", "95% interval", "p (article)", "p (paragraph)", "p (question)", "p (Holm)", "d_z"]
HEADS += ["Wins/ties/losses", "MDE"]


def sections(text: str) -> dict[str, list[list[str]]]:
    """The tables of a comparison by their titles, as rows of cells; the first has the heads."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("**"):
            title = line
        elif line.startswith("|") and not line.startswith("|:-"):
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.setdefault(title, []).append(cells)
    return found


def expected_row(each: Difference) -> list[str]:
    result = each.result
    return [
        each.run + (" †" if each.p_adjusted < LEVEL else ""),
        f"{result.mean_a:.4f}",
        f"{result.delta:+.4f}",
        f"{result.low:+.4f} to {result.high:+.4f}",
        *(f"{each.by[name].p:.4f}" for name in CLUSTERS),  # with so few draws none is too small for that
        f"{each.p_adjusted:.4f}",
        f"{result.d_z:.2f}",
        f"{result.wins}/{result.ties}/{result.losses}",
        f"{result.detectable:.4f}",
    ]


@pytest.mark.parametrize(("measure", "cluster"), [("map", "article"), ("recall_at_1", "question")])
def test_numbers_are_those_of_the_comparison(measure: str, cluster: str, two: list[Path]) -> None:
    text = compare(two, measure=measure, cluster=cluster, **FEW)
    found = sections(text)
    assert len(found) == 3
    for (title, rows), setting in zip(found.items(), Setting, strict=True):
        aligned = align(find_runs(two), "HybridDemo", setting, measure)
        (each,) = against_baseline(
            aligned, 0, collection="HybridDemo", setting=setting, measure=measure, cluster=cluster, **FEW
        )
        assert rows == [HEADS, [BM25, f"{each.result.mean_b:.4f}", *["-"] * 9], expected_row(each)]
        subsets = {"monolingual": 3, "cross-lingual": 6, "multilingual": 3}[setting.value]
        assert title == (
            f"**HybridDemo, {setting.value}**: {measure}, {subsets} subsets, {84 * subsets} queries in "
            f"{each.result.n_clusters} clusters"
        )
    notes = text.splitlines()[-1]
    assert notes.startswith(f"Difference from {BM25} in {measure}, ")
    assert "(300 flips and resamples, seed 1)" in notes
    assert f"questions clustered by {cluster};" in notes
    assert "letter" not in text


def test_the_same_request_gives_the_same_text_and_another_seed_another(two: list[Path]) -> None:
    assert compare(two, draws=100) == compare(two, draws=100, seed=0) != compare(two, draws=100, seed=1)


def test_three_runs_get_letters(output: Path) -> None:
    text = compare([output], **FEW)
    for rows, setting in zip(sections(text).values(), Setting, strict=True):
        aligned = align(find_runs([output]), "HybridDemo", setting, "map")
        differences = against_baseline(aligned, 0, collection="HybridDemo", setting=setting, measure="map", **FEW)
        letters = all_pairs(aligned, **FEW)[1]
        assert rows[0] == [*HEADS, "Letters"]
        assert [row[:-1] for row in rows[2:]] == [expected_row(each) for each in differences]
        assert [row[-1] for row in rows[1:]] == letters
    assert "Runs that share a letter do not differ" in text
    assert any(row[0].endswith(" †") for rows in sections(text).values() for row in rows)
    assert f"† where that is below {LEVEL};" in text


def test_letters_and_marks_stand_by_the_clustering_that_counts(output: Path) -> None:
    by_question = compare([output], cluster="question", **FEW)
    for rows, setting in zip(sections(by_question).values(), Setting, strict=True):
        aligned = align(find_runs([output]), "HybridDemo", setting, "map")
        assert [row[-1] for row in rows[1:]] == all_pairs(aligned, "question", **FEW)[1]


def test_a_single_article_leaves_the_finer_clusters(two: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(folder, tmp_path / name / "1")) for folder, name in zip(two, "mn", strict=True)]
    for folder in copies:
        change_table(folder, PAIRS, lambda table: table.filter(pc.equal(table["cluster_article"], 0)))
        (folder / f"{MULTILINGUAL}.json").unlink()
    tables = sections(compare(copies, cluster="question", **FEW))
    assert len(tables) == 2
    for rows in tables.values():
        assert rows[2][4] == "-"
        assert rows[2][6] == rows[2][7] != "-"
    assert refused(*copies).startswith("1 cluster: a comparison needs at least 2; choose smaller clusters")


def test_very_small_p_values_are_told(output: Path) -> None:
    rows = next(iter(sections(compare([output], draws=20_000)).values()))
    assert rows[3][0] == f"{WORD_COUNTS} †"
    assert rows[3][4] == "5.0e-05"  # 1 / 20,001: nothing is 0.0000


def test_the_baseline_can_be_named(output: Path, two: list[Path]) -> None:
    baseline = folder_of(output, CHAR_NGRAM)
    text = compare([output], baseline, **FEW)
    for rows in sections(text).values():
        assert [row[0].removesuffix(" †") for row in rows] == ["Run", CHAR_NGRAM, BM25, WORD_COUNTS]
        assert rows[1][2] == "-"
    assert text.splitlines()[-1].startswith(f"Difference from {CHAR_NGRAM} in map")
    # from the other side
    forth, back = sections(compare(two, **FEW)), sections(compare([two[0]], two[1], **FEW))
    for one, other in zip(forth.values(), back.values(), strict=True):
        assert float(one[2][2]) == -float(other[2][2])
        assert (one[1][1], one[2][1]) == (other[2][1], other[1][1])
        assert one[2][4:8] == other[2][4:8]
        assert one[2][9].split("/") == other[2][9].split("/")[::-1]


def test_a_folder_of_several_runs_is_no_baseline(output: Path, two: list[Path]) -> None:
    with pytest.raises(RequestError) as caught:
        compare(two, output)
    assert str(caught.value) == (
        f"{output} holds several runs: name the folder of one, <output>/results/<model>/<revision>"
    )


def test_a_bias_measure_is_compared_where_it_applies(two: list[Path]) -> None:
    ((title, rows),) = sections(compare(two, measure="bias_rank_distance", **FEW)).items()
    assert title.startswith("**HybridDemo, multilingual**: bias_rank_distance, 3 subsets, 252 queries in ")
    frame = main_frame(find_runs(two))
    assert [row[1] for row in rows[1:]] == [f"{value:.4f}" for value in frame["bias_rank_distance"]]
    assert float(rows[2][2]) == pytest.approx(float(rows[2][1]) - float(rows[1][1]), abs=1.5e-4)


def test_only_settings_that_all_runs_have_are_compared(output: Path, tmp_path: Path) -> None:
    save_runs(tmp_path, [CHAR_NGRAM], [PAIRS], settings=["cross"])
    (title,) = sections(compare([folder_of(output, BM25), tmp_path], **FEW))
    assert title.startswith("**HybridDemo, cross-lingual**: map, 6 subsets")


def refused(*paths: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        compare(paths, **{**FEW, **options})
    return str(caught.value)


def test_one_run_is_not_enough(two: list[Path]) -> None:
    expected = f"one run only ({BM25}): a comparison takes two; name another run's folder"
    assert refused(two[0]) == refused(two[0], two[0]) == refused(two[0], baseline=two[0]) == expected


def test_wrong_requests(two: list[Path], tmp_path: Path) -> None:
    assert refused(*two, measure="mapp") == "no measure of queries is called 'mapp': did you mean 'map'?"
    assert refused(*two, draws=99) == "99 draws: take at least 100, better 10000"
    assert refused(two[0], tmp_path / "x") == (
        f"there is no folder {tmp_path / 'x'}: give the --output of `hybrid-bench run`"
    )
    assert refused(*two, baseline=tmp_path).startswith(f"no run in {tmp_path}: ")


def test_nothing_in_common(output: Path, tmp_path: Path, data_dir: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    save_runs(first, [CHAR_NGRAM], ["XQuAD-R-Pairs"], ["de"], settings=["mono"], data_dir=data_dir)
    save_runs(second, [CHAR_NGRAM], [PAIRS], ["de"], settings=["mono"])
    bm25 = folder_of(output, BM25)
    assert refused(bm25, first) == (
        f"nothing to compare: {BM25}, {CHAR_NGRAM} have no setting of a collection in common with 'map'"
    )
    # nor does a bias of pools say anything of pairs
    assert refused(bm25, second, measure="bias_rank_distance").endswith("in common with 'bias_rank_distance'")


def test_runs_over_other_data_are_refused(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    change_signature(
        folder_of(copy, CHAR_NGRAM), MULTILINGUAL, lambda signed: signed["data_sha256"].update(de="0" * 64)
    )
    assert refused(copy) == (
        f"{BM25} and {CHAR_NGRAM} were made from different data of {MULTILINGUAL} (de): run one of them again, so that "
        "both are about the same"
    )


def test_runs_over_another_kind_of_passages_are_refused(output: Path, tmp_path: Path) -> None:
    """A sentence with what stands around it is another text to be found."""
    save_runs(tmp_path, [BM25], [PAIRS], settings=["mono"], passage="sentence+context")
    assert refused(folder_of(output, BM25), tmp_path).startswith(
        f"{BM25} and {BM25} (passage=sentence+context) were made from different data of {PAIRS} ("
    )


def test_runs_over_different_pools_are_refused(output: Path, tmp_path: Path) -> None:
    save_runs(tmp_path, [BM25], [MULTILINGUAL], pool_languages=["de", "en", "th"])
    assert refused(folder_of(output, BM25), tmp_path).startswith(
        f"{BM25} and {BM25} (pool_languages=de-en-th) ranked different pools in {MULTILINGUAL}, test/de (1,408 passages"
    )


def test_names_with_a_bar_do_not_break_the_table(output: Path, tmp_path: Path) -> None:
    names = ["tests/a|b", "tests/c||d"]
    save_runs(tmp_path, names, [PAIRS], settings=["mono"])
    text = compare([folder_of(output, BM25), tmp_path], **FEW)
    (rows,) = sections(text).values()
    assert [row[0].removesuffix(" †") for row in rows[1:]] == [BM25, *names]
    assert {len(row) for row in rows} == {len(HEADS) + 1}
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(HEADS) + 2}
