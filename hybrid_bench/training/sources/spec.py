"""What a configuration says of a source, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hybrid_bench.data.collection import PassageText
from hybrid_bench.errors import DataError, RequestError, reason, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.sources.aligned import read_lines, read_ntrex
from hybrid_bench.training.sources.lareqa import read_lareqa_format
from hybrid_bench.training.sources.mfaq import read_mfaq
from hybrid_bench.training.sources.mmarco import VERSIONS, read_mmarco
from hybrid_bench.training.sources.mr_tydi import read_mr_tydi
from hybrid_bench.training.sources.places import DATASETS
from hybrid_bench.training.sources.schema import ABOUT, LANGUAGE_CODE, LANGUAGE_NAMES, ROLE, SourceTexts, is_about
from hybrid_bench.training.sources.tables import read_hf, read_parallel

__all__ = ["Kind", "SourceSpec"]

Kind = Literal["parallel", "hf", "mmarco", "mr-tydi", "mfaq", "lareqa", "ntrex", "lines"]
#: What each kind takes in ``options``, with the defaults.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "parallel": {},
    "hf": {"config": "default", "split": "train", "files": ""},
    "mmarco": {"version": "v2", "negatives": 0, "distinct": False},
    "mr-tydi": {"split": "train", "negatives": 0, "titles": False},
    "mfaq": {"split": "train"},
    "lareqa": {"passage": "sentence", "by": "paragraph", "folds": 1, "fold": (0,)},
    "ntrex": {},
    "lines": {"documents": ""},
}
_WITH_COLUMNS = ("parallel", "hf", "lines")
_ONE_LANGUAGE = ("mr-tydi", "mfaq")
_DATASET = re.compile(r"[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class SourceSpec:
    """One source of training data, as a configuration gives it. Nothing is read before `load`.

    Attributes:
        name: What messages, the model card and the overlap report call it.
        kind: Its format; see the module.
        path: A file or folder; a relative one is taken from the working folder.
        dataset: In place of a path, a data set of the Hugging Face Hub, ``ORG/NAME``; of the kind ``lareqa``, a
            collection of this project. Kinds that are one data set know its name.
        revision: Commit, tag or branch of the data set on the Hub; empty for the newest.
        languages: Codes of the languages to take; empty for all that are there.
        columns: What the columns of our schema are called there.
        options: What else the kind takes; see `option`.
        rows: How many rows there should be; a note says so where there are others.
        negatives: How many hard negatives of each row are read; None for all that there are, of lists as many as every
            row has, and of the kinds ``mmarco`` and ``mr-tydi`` as many as their option says.

    Raises:
        RequestError: If something is unknown or does not go together.
    """

    name: str
    kind: Kind
    path: str = ""
    dataset: str = ""
    revision: str = ""
    languages: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    negatives: int | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise RequestError("a source has no name: give each its own")
        if self.kind not in _OPTIONS:
            raise RequestError(f"{self.name}: no kind '{self.kind}': {did_you_mean(str(self.kind), _OPTIONS)}")
        if self.path and self.dataset:
            raise RequestError(f"{self.name}: both path and dataset are given: leave one out")
        if self.dataset and self.kind in {"parallel", "ntrex", "lines"}:
            raise RequestError(f"{self.name}: kind '{self.kind}' is read from files: give path in place of dataset")
        if not self.path and not self.dataset and self.kind not in DATASETS:
            raise RequestError(f"{self.name}: nothing says where it is: give path")
        if self.kind != "lareqa" and self.dataset and not _DATASET.fullmatch(self.dataset):
            raise RequestError(f"{self.name}: '{self.dataset}' is no name of a data set on the Hub: give ORG/NAME")
        if self.revision and (self.path or self.kind == "lareqa"):
            raise RequestError(f"{self.name}: revision '{self.revision}' is of a data set on the Hub: leave it out")
        self._check_languages()
        self._check_columns()
        self._check_options()

    def _check_languages(self) -> None:
        codes = {name: code for code, name in LANGUAGE_NAMES.items()}
        for code in self.languages:
            if code.lower() in codes:
                raise RequestError(f"{self.name}: languages are given by code: '{codes[code.lower()]}', not '{code}'")
            if not LANGUAGE_CODE.fullmatch(code):
                raise RequestError(
                    f"{self.name}: '{code}' is no code of a language: {did_you_mean(code, LANGUAGE_NAMES)}"
                )
            if self.languages.count(code) > 1:
                raise RequestError(f"{self.name}: language '{code}' is given twice")
            if self.kind in {"mmarco", "mr-tydi"} and code not in LANGUAGE_NAMES:
                raise RequestError(
                    f"{self.name}: {self.kind} has no language '{code}': {did_you_mean(code, LANGUAGE_NAMES)}"
                )
        if self.kind == "mmarco" and not self.languages:
            raise RequestError(f"{self.name}: give languages, e.g. ['en', 'de']: each has 3 gigabytes of passages")
        if self.kind in _ONE_LANGUAGE and len(self.languages) != 1:
            raise RequestError(
                f"{self.name}: nothing in {self.kind} is there in two languages: give one in languages, and a source of"
                " its own to each other"
            )

    def _check_columns(self) -> None:
        if self.columns and self.kind not in _WITH_COLUMNS:
            raise RequestError(f"{self.name}: the format of {self.kind} is fixed: leave out columns")
        by_language = self.kind == "hf" and "{language}" in str(self.options.get("config", ""))
        if self.kind == "lines":
            if not self.columns:
                raise RequestError(f'{self.name}: columns is missing: give the file of each language, de = "de.txt"')
            for code in (code for code in self.columns if not LANGUAGE_CODE.fullmatch(code)):
                raise RequestError(f"{self.name}: columns.{code}: '{code}' is no code of a language")
            for code in (code for code in self.languages if code not in self.columns):
                raise RequestError(f"{self.name}: no file of '{code}' in columns: {did_you_mean(code, self.columns)}")
            return
        if by_language:
            for column in ("id", "query", "passage"):
                if column not in self.columns:
                    raise RequestError(
                        f"{self.name}: columns.{column} is missing: with {{language}} in config, give id, query and"
                        " passage"
                    )
            if not self.languages:
                raise RequestError(f"{self.name}: give languages: config has {{language}} in it")
        for column in self.columns:
            role, _, code = column.rpartition("_")
            known = ("id", *ABOUT) if by_language else ABOUT
            whole = ROLE.fullmatch(column) if by_language else ROLE.fullmatch(role) and LANGUAGE_CODE.fullmatch(code)
            if column not in known and not is_about(column) and not whole:
                form = "query" if by_language else "query_<language>"
                raise RequestError(
                    f"{self.name}: columns has the unknown key '{column}': keys are {form},"
                    f" {form.replace('query', 'passage')}, {form.replace('query', 'negative_1')}, {', '.join(known)}"
                )

    def _check_options(self) -> None:
        known = _OPTIONS[self.kind]
        if self.negatives is not None:
            if self.negatives < 0:
                raise RequestError(f"{self.name}: negatives = {self.negatives}: give 0 for none, or how many to read")
            if "negatives" in self.options:
                raise RequestError(f"{self.name}: both negatives and options.negatives are given: leave one out")
        for option, value in self.options.items():
            if option not in known:
                hint = did_you_mean(option, known) if known else "it takes none"
                raise RequestError(f"{self.name}: kind '{self.kind}' has no option '{option}': {hint}")
            default = known[option]
            kind = Sequence if isinstance(default, tuple) else type(default)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise RequestError(f"{self.name}: options.{option} = {shown(value)}: should be like {shown(default)}")
        checks: list[tuple[str, Callable[[Any], bool], str]] = [
            ("negatives", lambda value: value >= 0, "a number of hard negatives, at least 0"),
            ("version", VERSIONS.__contains__, f"one of {', '.join(VERSIONS)}"),
            ("passage", [*PassageText].__contains__, f"one of {', '.join(PassageText)}"),
            ("by", ("paragraph", "article").__contains__, "paragraph or article"),
            ("folds", lambda value: value >= 1, "a number of parts, at least 1"),
        ]
        for option, allowed, wanted in checks:
            if option in known and not allowed(self.option(option)):
                raise RequestError(f"{self.name}: options.{option} = {shown(self.option(option))}: should be {wanted}")
        if self.kind == "mmarco" and self.option("negatives") > 1:
            raise RequestError(f"{self.name}: options.negatives = {self.option('negatives')}: a triple has one")
        if self.kind == "lareqa":
            folds, fold = self.option("folds"), tuple(self.option("fold"))
            if not fold or any(not isinstance(each, int) or not 0 <= each < folds for each in fold):
                raise RequestError(
                    f"{self.name}: options.fold = {shown(fold)}: should be numbers from 0 to {folds - 1}"
                )

    def option(self, name: str) -> Any:
        """The value of an option of its kind, or its default.

        ============  ==============  ==========================================================================
        ``hf``        ``config``      Configuration; with ``{language}`` in it, each language has its own.
                      ``split``       Split.
                      ``files``       In place of both, the files, as a glob below the folder.
        ``mmarco``    ``version``     ``v2`` or ``v1.1``.
                      ``negatives``   1: the third id of a triple is a hard negative.
                      ``distinct``    Each pair of query and passage once, in place of every triple.
        ``mr-tydi``   ``split``       Split; only ``train`` has texts.
                      ``negatives``   So many of a question's hard negatives.
                      ``titles``      Passages begin with the title of their article.
        ``mfaq``      ``split``       ``train`` or ``valid``.
        ``lareqa``    ``passage``     ``sentence``, or ``sentence+context`` with the paragraph after it.
                      ``folds``       Questions are parted in so many, by the number of their cluster modulo this.
                      ``fold``        Which of the parts, from 0.
                      ``by``          Which clusters: ``paragraph`` or ``article``, numbered as in `Collection`.
        ``lines``     ``documents``   File with the id of each line's document.
        ============  ==============  ==========================================================================
        """
        if name == "negatives" and self.negatives is not None:
            return self.negatives
        return self.options.get(name, _OPTIONS[self.kind][name])

    @property
    def place(self) -> str:
        """The path or data set, and the revision if one is given."""
        return self.path or f"{self.dataset or DATASETS[self.kind]}{self.revision and '@'}{self.revision}"

    def load(self, data_dir: Path | None = None) -> SourceTexts:
        """Read the source.

        Args:
            data_dir: The user's data folder, where collections of this project are looked for; as for `run`.

        Raises:
            RequestError: There is no such file, folder or data set.
            DataError: It does not hold what its format promises, or lacks a language; the line names the place.
        """
        try:
            read = _READERS[self.kind](self, data_dir)
        except OSError as error:
            raise DataError(f"{self.name}: cannot read {error.filename or self.place} ({reason(error)})") from error
        texts = self._with_negatives(read).with_answers()
        if self.rows is not None and len(texts) != self.rows:
            note = f"{len(texts):,} rows, where {self.rows:,} were expected"
            texts = replace(texts, notes=(*texts.notes, note))
        return texts

    def _with_negatives(self, texts: SourceTexts) -> SourceTexts:
        """With as many hard negatives as are asked for."""
        wanted, there = self.negatives, len(texts.negatives)
        if wanted is None or wanted == there:
            return texts
        if wanted > there:
            raise DataError(f"{self.name}: negatives = {wanted}, but its rows have {there}: give at most that many")
        return replace(
            texts,
            negatives=texts.negatives[:wanted],
            negative_rows=texts.negative_rows[:wanted],
            negative_groups=texts.negative_groups[:wanted],
        )


_READERS: Mapping[str, Callable[[SourceSpec, Path | None], SourceTexts]] = {
    "parallel": read_parallel,
    "hf": read_hf,
    "mmarco": read_mmarco,
    "mr-tydi": read_mr_tydi,
    "mfaq": read_mfaq,
    "lareqa": read_lareqa_format,
    "ntrex": read_ntrex,
    "lines": read_lines,
}
assert {*_READERS} == {*_OPTIONS} == {*get_args(Kind)}
