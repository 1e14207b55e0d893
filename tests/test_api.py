"""What the package offers to a notebook: the same numbers as the command line, from names that are checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hybrid_bench as hb
from helpers import static_model
from hybrid_bench.cli import main
from hybrid_bench.errors import RequestError
from hybrid_bench.reporting.html import as_html
from hybrid_bench.reporting.text import as_markdown
from saved_runs import BM25, CHAR_NGRAM, LANGUAGES, folder_of, rows_of, save_runs
from test_light import run_light


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("face") / "runs")


@pytest.fixture(scope="module")
def runs(output: Path) -> hb.Runs:
    return hb.load_runs(output)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_it_offers_what_it_says() -> None:
    for name in hb.__all__:
        assert getattr(hb, name).__doc__ or name == "__version__"
    assert set(hb.__all__) <= set(dir(hb))
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        hb.evaluat  # noqa: B018 # that it is not there is the test


class TestRuns:
    def test_they_are_a_sequence_with_names(self, runs: hb.Runs, output: Path) -> None:
        assert runs.names == [BM25, CHAR_NGRAM]
        assert runs[BM25] is runs[0]
        assert [run.model for run in runs[1:]] == [CHAR_NGRAM]
        assert (runs[:1] + runs[1:]).names == runs.names
        assert hb.load_runs(folder_of(output, BM25)).names == [BM25]
        assert BM25 in repr(runs)
        assert f"<td>{BM25}</td>" in runs._repr_html_()

    @pytest.mark.parametrize("setting", ["monolingual", "cross-lingual", "multilingual"])
    def test_scores_are_means_of_saved_rows(self, runs: hb.Runs, output: Path, setting: str) -> None:
        rows = rows_of(folder_of(output, BM25), "HybridDemo-Pairs", "HybridDemo-Multilingual")
        frame = pd.DataFrame([row for row in rows if row["setting"] == setting])
        by_subset = frame.groupby(["subset", "query_language"])["ap"].mean().reset_index()
        means = by_subset.groupby("query_language")["ap"].mean()
        found = runs.scores("map", by="language", settings=[setting])
        found = found[found["run"] == BM25].set_index("language")
        assert list(found["value"].index) == sorted(LANGUAGES)
        np.testing.assert_allclose(found["value"], means[found.index], atol=1e-12)
        assert (found["low"] < found["value"]).all()
        assert (found["value"] < found["high"]).all()
        assert found["n"].tolist() == frame.groupby("query_language").size()[found.index].tolist()
        (macro,) = runs.scores("map", settings=[setting], intervals=False).query("run == @BM25")["value"]
        assert macro == pytest.approx(by_subset["ap"].mean(), abs=1e-12)

    def test_columns(self, runs: hb.Runs) -> None:
        ends = ["value", "low", "high", "n", "clusters"]
        assert list(runs.scores()) == ["run", "collection", "setting", *ends]
        assert list(runs.scores(by="language")) == ["run", "collection", "setting", "language", *ends]
        compared = runs.scores(["map", "mrr"], "pair", settings=["cross"], baseline=BM25)
        assert list(compared)[3:] == ["language", "pool", "measure", *ends, "delta", "p", "p_adjusted"]
        assert compared.loc[compared["run"] == BM25, "p"].isna().all()
        assert compared.loc[compared["run"] == CHAR_NGRAM, "p"].between(0, 1).all()

    def test_queries_are_the_saved_rows(self, runs: hb.Runs, output: Path) -> None:
        found = runs.queries("map", settings=["multi"]).query("run == @CHAR_NGRAM")
        rows = rows_of(folder_of(output, CHAR_NGRAM), "HybridDemo-Multilingual")
        saved = {(row["subset"], row["question_id"]): row["ap"] for row in rows}
        assert {
            (s, q): v for s, q, v in zip(found["subset"], found["question_id"], found["value"], strict=True)
        } == saved

    @pytest.mark.parametrize(
        ("asked", "line"),
        [
            ({"measure": "mpa"}, "no measure is called 'mpa': did you mean 'map'?"),
            ({"by": "langage"}, "unknown level 'langage': did you mean 'language'?"),
            ({"collections": ["HybridDemos"]}, "unknown collection 'HybridDemos': did you mean 'HybridDemo'?"),
            ({"settings": ["mulit"]}, "unknown setting 'mulit': did you mean 'multi'?"),
            ({"baseline": "hybrid_bench/bm52"}, f"'hybrid_bench/bm52': did you mean '{BM25}'?"),
            ({"cluster": "articel"}, "unknown cluster 'articel': did you mean 'article'?"),
        ],
    )
    def test_an_unknown_name_is_one_line(self, runs: hb.Runs, asked: dict[str, Any], line: str) -> None:
        with pytest.raises(RequestError) as caught:
            runs.scores(**asked)
        assert str(caught.value).endswith(line)
        assert "\n" not in str(caught.value)

    def test_no_folder(self) -> None:
        with pytest.raises(RequestError, match="no folder is named"):
            hb.load_runs()


def test_scores_of_saved_runs_need_neither_torch_nor_mteb(output: Path) -> None:
    program = "import hybrid_bench as hb; print(len(hb.load_runs(sys.argv[1]).scores('map')))"
    assert run_light(program, output) == "6\n"


class TestCompare:
    def test_it_says_what_the_command_says(
        self, runs: hb.Runs, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = hb.compare(runs, baseline=BM25, measure="map")
        folders = [str(folder_of(output, model)) for model in (BM25, CHAR_NGRAM)]
        assert found.to_markdown() == printed(capsys, "compare", *folders)
        assert found.to_latex() == printed(capsys, "compare", *folders, "--format", "latex")
        records = json.loads(printed(capsys, "compare", *folders, "--format", "json"))["values"]
        for column in ("delta", "p"):
            values = [None if pd.isna(value) else value for value in found[column]]
            assert values == [record[column] for record in records]

    def test_a_part_is_an_ordinary_frame(self, runs: hb.Runs) -> None:
        assert type(hb.compare(runs, baseline=BM25).head(1)) is pd.DataFrame

    def test_a_baseline_by_its_folder(self, runs: hb.Runs, output: Path) -> None:
        by_name, by_folder = (hb.compare(runs, each) for each in (CHAR_NGRAM, folder_of(output, CHAR_NGRAM)))
        pd.testing.assert_frame_equal(by_name, by_folder)


class TestReport:
    def test_its_tables_are_those_of_the_command(
        self, runs: hb.Runs, output: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = hb.report(runs, baseline=BM25)
        baseline = ["--baseline", str(folder_of(output, BM25))]
        for name in ("main", "bias", "leaderboard"):
            shown = printed(capsys, "report", str(output), "--table", name, *baseline)
            assert all(as_markdown(table) in shown for table in page.tables[name])
            assert page.tables[name].to_latex() == printed(
                capsys, "report", str(output), "--table", name, "--format", "latex", *baseline
            )
        assert repr(page.tables["main"]) in repr(page)
        assert as_html(page.tables["main"][0]) in page.tables["main"]._repr_html_()
        assert page.tables["main"]._repr_html_() in page._repr_html_()

    @pytest.mark.parametrize("ending", [".html", ".md", ".tex", ".csv", ".json"])
    def test_the_ending_says_the_format(self, runs: hb.Runs, tmp_path: Path, ending: str) -> None:
        path = hb.report(runs).save(tmp_path / f"report{ending}")
        text = path.read_text(encoding="utf-8")
        begins = {".html": "<!DOCTYPE html>", ".md": "|", ".tex": "% mAP", ".csv": "system,", ".json": "{"}
        assert text.startswith(begins[ending])

    def test_another_ending(self, runs: hb.Runs, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match=r"report\.txt: the ending says the format: take one of \.html"):
            hb.report(runs).save(tmp_path / "report.txt")


def test_evaluate_gives_what_was_asked_for(output: Path) -> None:
    lines: list[str] = []
    found = hb.evaluate(
        BM25, "HybridDemo", settings="mono", languages=list(LANGUAGES), output=output, tell=lines.append
    )
    assert found.scores()["setting"].tolist() == ["monolingual"]
    assert any("already there" in line for line in lines)
    with pytest.raises(RequestError, match="evaluate has no option 'bach_size': did you mean 'batch_size'"):
        hb.evaluate(BM25, "HybridDemo", bach_size=3)
    with pytest.raises(RequestError, match="no embedded model 'hybrid_bench/bm26'"):
        hb.evaluate("hybrid_bench/bm26", "HybridDemo", output=output)


def test_a_model_may_be_given_itself(tmp_path: Path) -> None:
    model = static_model(["one", "two", "eins", "zwei"])
    asked: dict[str, Any] = {"settings": "mono", "languages": ["de"], "output": tmp_path, "tell": lambda line: None}
    found = hb.evaluate([model, Path("hybrid_bench/bm25")], "HybridDemo", name="mine", **asked)
    assert found.names == ["local/mine", BM25]
    assert hb.load_runs(tmp_path).names == [BM25, "local/mine"]
    with pytest.raises(RequestError, match="SentenceTransformer has no name to save its results under"):
        hb.evaluate(static_model(["one"]), "HybridDemo", **asked)
    with pytest.raises(RequestError, match="name='x' is for one model that is given itself"):
        hb.evaluate([BM25], "HybridDemo", name="x", **asked)


def test_collections_say_what_there_is() -> None:
    rows = {row["task"]: row for row in hb.collections().to_dict("records")}
    assert rows["XQuAD-R-Pairs"]["name"] == "XQuAD-R"
    assert (rows["XQuAD-R-Pairs"]["questions"], rows["XQuAD-R-Pairs"]["passages"]) == (13_090, 13_014)
    assert rows["MLQA-R-Multilingual"]["languages"].split() == ["ar", "de", "en", "es", "hi", "vi", "zh"]
    assert rows["MIRACL-Pairs"]["passages"] is None


CONFIG = """
output = "nowhere"
[model]
kind = "static"
vocabulary = 400
width = 8
[[sources]]
name = "demo half"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["de", "en"]
options = { folds = 2, fold = [0] }
[overlap]
check = false
[arguments]
max_steps = 2
per_device_train_batch_size = 4
save_strategy = "no"
"""


def test_train_and_estimate(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text(CONFIG, encoding="utf-8")
    lines: list[str] = []
    trained = hb.train(tmp_path / "demo.toml", alpha=0.25, output=tmp_path / "model", tell=lines.append)
    assert trained.folder == tmp_path / "model"
    assert "- `alpha`: 0.25" in (trained.folder / "README.md").read_text(encoding="utf-8")
    one, eight = (hb.estimate(tmp_path / "demo.toml", devices=n, sharding=s) for n, s in ((1, None), (8, "fsdp")))
    assert one.trained == eight.trained == one.parameters
    with pytest.raises(RequestError, match="arguments"):
        hb.train(tmp_path / "demo.toml", changes={"arguments.max_step": 2}, output=tmp_path / "other")
