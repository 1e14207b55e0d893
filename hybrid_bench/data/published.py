"""Published results, to be shown beside runs: never tested against, since nobody has their scores by query.

They lie as long CSV files in ``results/published/``, and in a wheel inside the package:
``system, collection, setting, query_language, metric, value, source``, the form that `values` derives from runs too.
``value`` is a string as it was printed; ``query_language`` is a code, or ``mean`` or ``median`` over the languages.
Rows without a system are about data.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hybrid_bench.errors import DataError, RequestError, reason
from hybrid_bench.languages import Setting, did_you_mean

__all__ = [
    "PREFIX",
    "PUBLICATIONS",
    "Publication",
    "PublishedSystem",
    "PublishedValue",
    "is_published",
    "published_systems",
]

#: What a published system's name begins with, where a run's path could stand.
PREFIX = "published:"

#: What the files have in place of a language where a number is over all of them.
_OVER_LANGUAGES = ("mean", "median")
_IN_WHEEL = Path(__file__).parents[1] / "published_results"
_FOLDER = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[2] / "results" / "published"


class Publication(NamedTuple):
    """Where published results come from.

    Attributes:
        key: Its name behind ``published:``, and that of its file.
        authors: As they are cited.
        title: Of the publication.
        identifier: arXiv or DOI.
        bibtex: Its entry.
    """

    key: str
    authors: str
    title: str
    identifier: str
    bibtex: str

    @property
    def citation(self) -> str:
        """One sentence for a table's notes."""
        return f"Reported: {self.authors}, {self.title}, {self.identifier}."


#: The publications whose results are here.
PUBLICATIONS: Mapping[str, Publication] = {
    "elmahdy2024": Publication(
        key="elmahdy2024",
        authors="Elmahdy et al. (2024)",
        title=(
            "Synergistic Approach for Simultaneous Optimization of Monolingual, Cross-lingual, and Multilingual "
            "Information Retrieval"
        ),
        identifier="arXiv 2408.10536",
        bibtex="""\
@misc{elmahdy2024synergistic,
  archiveprefix = {arXiv},
  author = {Elmahdy, Adel and Lin, Sheng-Chieh and Ahmad, Amin},
  eprint = {2408.10536},
  title = {Synergistic Approach for Simultaneous Optimization of Monolingual, Cross-lingual, and Multilingual Information Retrieval},
  year = {2024},
}""",  # noqa: E501 # mteb wants each field of a citation on one line
    )
}


class PublishedValue(NamedTuple):
    """A printed number.

    Attributes:
        collection: Name of the collection.
        setting: The setting.
        level: ``language``; ``mean`` or ``median``, over the query languages.
        query_language: Its code, where the level is a language; else empty.
        metric: By the name it has here, e.g. ``map``, ``bias_rank_distance``.
        printed: The number as it was printed.
        source: The table it stands in.
    """

    collection: str
    setting: Setting
    level: str
    query_language: str
    metric: str
    printed: str
    source: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.printed)

    @property
    def decimals(self) -> int:
        """How many digits were printed after the point."""
        return len(self.printed.partition(".")[2])


@dataclass(frozen=True)
class PublishedSystem:
    """The results of one published system.

    Attributes:
        name: Backbone and sampling, e.g. ``XLM-R hybrid``.
        publication: Where they come from.
        values: By collection, setting, level, query language and metric. Where two tables have the same number, that
            with more digits counts.
    """

    name: str
    publication: Publication
    values: Mapping[tuple[str, Setting, str, str, str], PublishedValue]

    @property
    def slug(self) -> str:
        """Its name in a reference: ``published:elmahdy2024/xlm-r-hybrid``."""
        return _slug(self.name)

    @property
    def label(self) -> str:
        """Its name in a table."""
        return f"{self.name} (reported)"

    def get(
        self, collection: str, setting: Setting, metric: str, level: str = "mean", query_language: str = ""
    ) -> PublishedValue | None:
        """A printed number; None if it was not printed."""
        return self.values.get((collection, setting, level, query_language, metric))


def is_published(path: str | Path) -> bool:
    """Whether this names published results, not a run's folder."""
    return str(path).startswith(PREFIX)


def published_systems(reference: str) -> list[PublishedSystem]:
    """The systems that a reference names.

    Args:
        reference: ``published:KEY`` for all of a publication, ``published:KEY/<backbone>-<sampling>`` for one.

    Raises:
        RequestError: If there is no such publication or system.
        DataError: If its file cannot be read.
    """
    key, _, slug = reference.removeprefix(PREFIX).partition("/")
    if key not in PUBLICATIONS:
        raise RequestError(f"no publication is called '{key}': {did_you_mean(key, PUBLICATIONS)}")
    systems = {system.slug: system for system in _systems(key)}
    if not slug:
        return list(systems.values())
    if slug not in systems:
        raise RequestError(f"{PREFIX}{key} has no system '{slug}': {did_you_mean(slug, systems)}")
    return [systems[slug]]


@cache
def _systems(key: str) -> Sequence[PublishedSystem]:
    path = _FOLDER / f"{key}.csv"
    found: dict[str, dict[tuple[str, Setting, str, str, str], PublishedValue]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if not row["system"]:
                    continue
                setting = Setting(row["setting"])
                over = row["query_language"] in _OVER_LANGUAGES
                level, code = (row["query_language"], "") if over else ("language", row["query_language"])
                value = PublishedValue(
                    row["collection"], setting, level, code, row["metric"], row["value"], row["source"]
                )
                values = found.setdefault(row["system"], {})
                place = value[:5]
                if place not in values or value.decimals > values[place].decimals:
                    values[place] = value
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read published results {path} ({reason(error)}): install the package again") from error
    return [PublishedSystem(name, PUBLICATIONS[key], values) for name, values in found.items()]


def _slug(name: str) -> str:
    return name.casefold().replace(" ", "-")
