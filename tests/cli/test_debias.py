"""`hybrid-bench run --debias`, fitted on the real NTREX-128, against every method's definition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from debiased import DEFINITIONS, Pair, by_definition, range_of_ranks
from helpers import task_of
from hybrid_bench.cli.commands import main
from hybrid_bench.engine.debias import Method
from hybrid_bench.engine.encode import Embeddings, Matrix, Role
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.evaluation import debiasing
from hybrid_bench.languages import language

NGRAM, MULTI = "hybrid_bench/char-ngram", "HybridDemo-Multilingual"
FILES = {"de": "ref.deu", "en": "src.eng", "th": "ref.tha"}
LINES, QUERIES = 20, 3


def encoded(role: Role, texts: Sequence[str]) -> Matrix:
    metadata = task_of(MULTI).metadata
    made = Embeddings(load(model_meta(NGRAM)), metadata, {}, lambda code: code, by_subset=False)  # type: ignore[arg-type] # it is an encoder
    made.encode(role, {"en": texts})
    matrix, row = made.rows(role, "en", texts)
    return matrix[row]


@pytest.mark.parametrize("method", DEFINITIONS)
def test_the_table_and_the_ranks_are_the_methods(
    tmp_path: Path,
    data_dir: Path,
    method: Method,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    demo = task_of(MULTI).read_collection()
    monkeypatch.setattr(debiasing, "ROWS", LINES)
    arguments = ["--models", NGRAM, "--tasks", MULTI, "--languages", "de", "--pool-languages", *FILES]
    arguments += ["--debias", method, "--debias-on", "ntrex", "--data-dir", str(data_dir), "--output", str(tmp_path)]
    assert main(["run", *arguments]) == 0
    assert f"{NGRAM} (debias={method}, debias_on=ntrex, pool_languages=de-en-th)" in capsys.readouterr().out
    (path,) = tmp_path.rglob(f"{MULTI}.queries.parquet")

    lines = {}
    for code in demo.parts:  # which lsar fits on, whatever is asked for
        name = FILES.get(code) or f"ref.{language(code).tag.partition('-')[0]}"
        (file,) = data_dir.glob(f"ntrex-128/newstest2019-{name}*.txt")
        lines[code] = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len({len(each) for each in lines.values()}) == 1
    assert all(text.strip() for each in lines.values() for text in each)
    chosen = [int(place) for place in np.linspace(0, len(lines["en"]) - 1, LINES)]
    texts = {code: [each[place] for place in chosen] for code, each in lines.items()}
    queries, passages = ({code: encoded(role, each) for code, each in texts.items()} for role in Role)
    asked = encoded(Role.QUERY, demo.queries["de"].texts[:QUERIES])
    scores = np.hstack(
        [
            by_definition(
                method,
                Pair(asked, "de", encoded(Role.PASSAGE, demo.passages[code].texts), code, queries, passages),
                cosine=True,
            )
            for code in FILES
        ]
    )
    ids = [passage for code in FILES for passage in demo.passages[code].ids]
    rows = {row["question_id"]: row for row in pq.read_table(path).to_pylist()}
    judged = demo.queries["de"].judgments
    checked = 0
    for query in range(QUERIES):
        row = rows[demo.queries["de"].question_ids[query]]
        for code, rank in zip(row["rank_languages"], row["ranks"], strict=True):
            here = (judged.query == query) & (judged.part == demo.part_index(code))
            (passage,) = judged.passage[here].tolist()
            first, last = range_of_ranks(scores[query], ids.index(demo.passages[code].ids[passage]))
            assert first <= rank <= last
            checked += 1
    assert checked == QUERIES * len(FILES)
