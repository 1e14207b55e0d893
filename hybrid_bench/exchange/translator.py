"""Machine translation of queries into other languages, into a file that `hybrid_bench.data.translations` reads.

Any encoder-decoder model of Hugging Face transformers can translate that says in one of the known ways which languages
are meant:

- NLLB, M2M100 and mBART by codes of their own, told to tokenizer and decoder;
- Marian (``opus-mt-en-de``) by being made for one pair, or by ``>>deu<<`` before the text where there are several
  target languages;
- MADLAD by ``<2de>`` before the text;
- T5 and others by a prefix in words, from the model's configuration or the request.

Nothing is sampled. Translations are appended to the file batch by batch, longest texts first, and put in order at the
end; a run that was stopped goes on where it stopped. Beside the file, ``<file>.provenance.json`` says for each source
what made it, and keeps two models or two settings from mixing under one name. Batches of another shape can differ in
the last bit of a score, so a different batch size, device or number of runs may, rarely, choose another word; the
provenance states them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hybrid_bench.data.files import atomic, expanded
from hybrid_bench.data.hashing import sha256_of_json
from hybrid_bench.data.parsing import read_json
from hybrid_bench.data.translations import Row, format_row, header, parse_row, read_rows, write_rows
from hybrid_bench.engine.models import folder_hash, offline_if_unreachable
from hybrid_bench.errors import DataError, HybridBenchError, ModelError, RequestError, how_to_install, reason
from hybrid_bench.languages import LANGUAGES, did_you_mean, language, languages, name_of
from hybrid_bench.progress import Progress
from hybrid_bench.version import VERSION

if TYPE_CHECKING:
    from torch import Tensor

# torch and transformers are imported where they are used: a wrong request is answered without them.

__all__ = ["DEFAULT_MODEL", "DTYPES", "TranslateOutcome", "TranslateRequest", "provenance_path", "translate"]

DEFAULT_MODEL = "facebook/nllb-200-distilled-600M"

DTYPES = ("float32", "bfloat16", "float16")

#: Every language as NLLB and as mBART-50 name it; M2M100 and MADLAD use our own codes. No model need know them all.
_CODES: dict[str, tuple[str, str | None]] = {
    "ar": ("arb_Arab", "ar_AR"),
    "bn": ("ben_Beng", "bn_IN"),
    "de": ("deu_Latn", "de_DE"),
    "el": ("ell_Grek", None),
    "en": ("eng_Latn", "en_XX"),
    "es": ("spa_Latn", "es_XX"),
    "fa": ("pes_Arab", "fa_IR"),
    "fi": ("fin_Latn", "fi_FI"),
    "fr": ("fra_Latn", "fr_XX"),
    "hi": ("hin_Deva", "hi_IN"),
    "id": ("ind_Latn", "id_ID"),
    "ja": ("jpn_Jpan", "ja_XX"),
    "ko": ("kor_Hang", "ko_KR"),
    "ru": ("rus_Cyrl", "ru_RU"),
    "sw": ("swh_Latn", "sw_KE"),
    "te": ("tel_Telu", "te_IN"),
    "th": ("tha_Thai", "th_TH"),
    "tr": ("tur_Latn", "tr_TR"),
    "vi": ("vie_Latn", "vi_VN"),
    "yo": ("yor_Latn", None),
    "zh": ("zho_Hans", "zh_CN"),
}

#: Further names of languages among Marian's models, which use two letters, three letters, or three and the script.
_MARIAN = {
    "ar": ("ara",),
    "fa": ("pes",),
    "sw": ("swh",),
    "zh": ("cmn_Hans", "cmn", "zho", "zh_CN", "zh_cn"),
}


@dataclass(frozen=True)
class TranslateRequest:
    """What to translate, by what, into which file.

    Attributes:
        out: The file, ``.tsv`` or ``.jsonl``; continued if it exists.
        corpus_languages: Two-letter codes of the languages that the queries were written in.
        query_languages: Two-letter codes of the languages to translate into; a language is not translated into itself.
        model: Name on the model hub, or folder that transformers saved.
        revision: Branch, tag or commit on the hub; None for the newest. A folder has none.
        source: Name of the translator in the file; None for the model's.
        batch_size: Queries that are translated together.
        device: E.g. ``cpu`` or ``cuda``; None for the best there is.
        dtype: One of `DTYPES`, what the model computes in.
        max_length: Longest query and longest translation, in tokens of the model. What is longer is cut, and counted.
        num_beams: Width of the beam search; 1 for greedy search.
        prefix: What is put before each query, for models that are told the languages in words; ``{source}`` and
            ``{target}`` become their English names. None for what the model's configuration says.
        limit: Translate only so many queries of each corpus language, the first; None for all.

    Raises:
        RequestError: If a value cannot be, or there is nothing to translate.
    """

    out: Path
    corpus_languages: tuple[str, ...]
    query_languages: tuple[str, ...]
    model: str = DEFAULT_MODEL
    revision: str | None = None
    source: str | None = None
    batch_size: int = 32
    device: str | None = None
    dtype: str = "float32"
    max_length: int = 256
    num_beams: int = 4
    prefix: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would only fail later."""
        if self.out.suffix not in {".tsv", ".jsonl"}:
            also = ": it is appended to, compress it when it is complete" if self.out.suffix == ".gz" else ""
            raise RequestError(f"translations are written to a .tsv or .jsonl file, not to {self.out}{also}")
        languages((*self.corpus_languages, *self.query_languages))
        if not self.directions:
            raise RequestError(
                f"nothing to translate from {', '.join(self.corpus_languages) or 'no language'} into"
                f" {', '.join(self.query_languages) or 'no language'}: give at least one query language that is not"
                " the corpus language"
            )
        for name in ("batch_size", "max_length", "num_beams", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"{name} {value} must be at least 1")
        if self.dtype not in DTYPES:
            raise RequestError(f"unknown dtype '{self.dtype}': {did_you_mean(self.dtype, DTYPES)}")
        if self.source is not None and (self.source != self.source.strip() or not self.source.isprintable()):
            raise RequestError(
                f"source {self.source!r} must be a name without white space around it, tabs or line breaks"
            )
        if self.source == "":
            raise RequestError("source must not be empty: leave it out for the model's name")
        if self.folder is not None and self.revision is not None:
            raise RequestError(f"a folder has no revision, but '{self.revision}' is asked for: leave it out")

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Pairs of corpus language and query language, each once."""
        pairs = [(c, q) for c in self.corpus_languages for q in self.query_languages if c != q]
        return tuple(dict.fromkeys(pairs))

    @property
    def folder(self) -> Path | None:
        """Where the model lies; None if it is one of the hub."""
        path = expanded(self.model)
        return path if path.is_dir() else None

    @property
    def source_name(self) -> str:
        """Name of the translator in the file."""
        return self.source or self.model_name

    @property
    def model_name(self) -> str:
        """Name under which the model is known: that on the hub, or ``local/<folder>``."""
        return self.model if self.folder is None else f"local/{self.folder.resolve().name}"


class TranslateOutcome(NamedTuple):
    """What a run did.

    Attributes:
        out: The file of translations.
        provenance: The file that says what made it.
        source: Name of the translator.
        translated: Translations that were made.
        kept: Translations that were there already.
        empty: (corpus language, query id, query language) where the model gave no text; not in the file, and tried
            again by the next run.
        cut: Queries that were cut to `TranslateRequest.max_length` before they were translated.
        unfinished: Translations that ended at that length.
    """

    out: Path
    provenance: Path
    source: str
    translated: int
    kept: int
    empty: tuple[tuple[str, str, str], ...]
    cut: int
    unfinished: int


def provenance_path(out: Path) -> Path:
    """The file beside a file of translations that says what made it."""
    return out.with_name(f"{out.name}.provenance.json")


def translate(
    request: TranslateRequest, topics: Callable[[str], Mapping[str, str]], tell: Callable[[str], None]
) -> TranslateOutcome:
    """Translate queries, or those of them that the file does not hold yet.

    Args:
        request: What to translate.
        topics: Corpus language -> its queries by id.
        tell: Takes messages for a person who watches, one line each.

    Returns:
        What was done. The file is complete unless `TranslateOutcome.empty` names queries.

    Raises:
        RequestError: If the file holds translations of the same source by another model or other settings, if the
            device does not exist, or another process writes the file.
        DataError: If the file is not one of translations, or cannot be written.
        ModelError: If the model cannot be loaded, is none for translation, does not know a language, or fails.
    """
    queries = {corpus: dict(topics(corpus)) for corpus in dict.fromkeys(c for c, _ in request.directions)}
    device = _device(request.device)
    with _locked(request.out):
        file = _File(request.out, request.source_name, tell)
        model = _Model(request, tell)
        file.claim(model.identity, {corpus: _hash(texts) for corpus, texts in queries.items()})
        work: dict[tuple[str, str], list[str]] = {}
        kept = 0
        for corpus, query in request.directions:
            ids = list(queries[corpus])[: request.limit]
            missing = [query_id for query_id in ids if (corpus, query, query_id) not in file.done]
            kept += len(ids) - len(missing)
            if missing:
                work[corpus, query] = missing
        tally = _Tally()
        if work:
            model.load(device)
            file.begin(model.settings, {"device": device, "batch_size": request.batch_size})
            try:
                total = sum(map(len, work.values()))
                with Progress(total, f"Translating by {request.source_name}", "queries") as bar:
                    for (corpus, query), missing in work.items():
                        bar.about(f"{corpus} to {query}")
                        for batch in model.translate((corpus, query), [queries[corpus][i] for i in missing], tally):
                            rows = [
                                Row(corpus, missing[position], query, text, request.source_name)
                                for position, text in batch.items()
                            ]
                            file.append([row for row in rows if row.text])
                            tally.empty += [(corpus, row.query_id, query) for row in rows if not row.text]
                            bar.update(len(rows))
            finally:
                file.end()
        file.sort(queries)
    return TranslateOutcome(
        out=request.out,
        provenance=provenance_path(request.out),
        source=request.source_name,
        translated=file.added,
        kept=kept,
        empty=tuple(tally.empty),
        cut=tally.cut,
        unfinished=tally.unfinished,
    )


def _hash(texts: Mapping[str, str]) -> str:
    return sha256_of_json(sorted(texts.items()))


def _device(name: str | None) -> str:
    """A device that exists."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has no error of its own for this
        raise RequestError(f"device '{name}' cannot be used: {_line(error)}; 'cpu' can") from error
    return name


def _line(error: BaseException) -> str:
    """The first line of an error of another library, as a clause."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".: ")


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other processes from the file; the operating system ends the lock with the process."""
    import filelock

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out.with_name(f".{out.name}.lock"))
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RequestError(f"another process translates into {out}: wait for it, or choose another file") from error
    except OSError as error:
        raise DataError(f"cannot write {out}: {reason(error)}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


# -- the file ------------------------------------------------------------------------------------------------------


class _File:
    """A file of translations that is added to, and the provenance beside it.

    Attributes:
        done: (corpus language, query language, query id) of what the source has in the file.
        added: Translations that this object wrote.
    """

    def __init__(self, path: Path, source: str, tell: Callable[[str], None]) -> None:
        """Read what is there; a line that a killed run left unfinished is removed."""
        self.path, self.source, self.tell = path, source, tell
        self.sidecar = provenance_path(path)
        self.provenance = self._read_provenance()
        self.done: set[tuple[str, str, str]] = set()
        self.added = 0
        if path.exists():
            self._check_header()
            self._repair()
            for _, row in read_rows(path):
                if row.source == source:
                    self.done.add((row.corpus_language, row.query_language, row.query_id))

    @property
    def entry(self) -> dict[str, Any]:
        """What the provenance says of the source."""
        return cast("dict[str, Any]", self.provenance.setdefault(self.source, {}))

    def claim(self, identity: Mapping[str, Any], topics: Mapping[str, str]) -> None:
        """Say what makes the translations from here on; refused if something else made those that are there.

        Args:
            identity: Model, revision and the settings that a translation depends on.
            topics: Hash over the queries, by corpus language.
        """
        name_it = f"give this one another name (source), or write another file than {self.path}"
        if self.done and not self.entry:
            raise RequestError(
                f"{self.path} holds translations by '{self.source}', but {self.sidecar.name} does not say what made"
                f" them: {name_it}"
            )
        if self.done:
            before = self.entry.get("identity", {})
            changed = [key for key in identity if before.get(key) != identity[key]]
            if changed:
                was = ", ".join(f"{key} {_short(before.get(key))} (now {_short(identity[key])})" for key in changed)
                raise RequestError(
                    f"{self.path} holds translations by '{self.source}' made with {was}: ask for the same again,"
                    f" {name_it}"
                )
            begun = {corpus for corpus, _, _ in self.done}
            for corpus in begun & topics.keys():
                if self.entry["topics"].get(corpus) != topics[corpus]:
                    raise RequestError(
                        f"the queries of '{corpus}' are not those that '{self.source}' translated in {self.path}:"
                        f" {name_it}"
                    )
            self.entry["topics"].update(topics)
        else:  # a file that was removed takes its history with it
            self.provenance[self.source] = {"identity": dict(identity), "topics": dict(topics), "runs": []}

    def begin(self, settings: Mapping[str, Any], circumstances: Mapping[str, Any]) -> None:
        """Write down how this run translates, and make the file if there is none.

        Args:
            settings: How the model generates, as it reads its own configuration and the request.
            circumstances: What need not be the same in all runs.
        """
        self.entry["generation"] = dict(settings)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # Of a run that is killed it stays unknown how much it did.
        self.entry["runs"].append({"date": now, **_versions(), **circumstances, "translated": None})
        self._write_provenance()  # before the first line: no line stands there without its provenance
        if not self.path.exists():
            write_rows(self.path, [])

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows; they are on the disk when this returns."""
        lines = "".join(format_row(row, self.path) for row in rows)
        try:
            with self.path.open("ab") as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {reason(error)}; what it holds so far is kept, run it again"
            ) from error
        self.added += len(rows)
        self.done.update((row.corpus_language, row.query_language, row.query_id) for row in rows)

    def sort(self, queries: Mapping[str, Mapping[str, str]]) -> None:
        """Put the source's lines into the order of languages and queries; all others stay as and where they are."""
        if not self.path.exists():
            return
        place = {(c, query_id): at for c, texts in queries.items() for at, query_id in enumerate(texts)}
        order = {code: at for at, code in enumerate(LANGUAGES)}  # others follow
        lines = _split(self.path.read_bytes())
        columns = None if self.path.suffix == ".jsonl" else list(Row._fields)
        mine: list[tuple[tuple[int, int, int], int]] = []
        for at, line in enumerate(lines):
            if not line.strip() or (columns is not None and at == 0):
                continue
            row = parse_row(line.decode("utf-8-sig").rstrip("\r\n"), columns)
            if row.source == self.source:
                known = place.get((row.corpus_language, row.query_id), len(place))
                corpus, query = (order.get(code, len(order)) for code in (row.corpus_language, row.query_language))
                mine.append(((corpus, query, known), at))
        slots = [at for _, at in mine]
        sorted_slots = [at for _, at in sorted(mine)]
        if slots == sorted_slots:
            return
        ordered = list(lines)
        for to, at in zip(slots, sorted_slots, strict=True):
            ordered[to] = lines[at]
        _replace(self.path, b"".join(ordered))

    def end(self) -> None:
        """Write down what this run did."""
        counts: dict[str, int] = {}
        for corpus, query, _ in sorted(self.done):
            counts[f"{query}-{corpus}"] = counts.get(f"{query}-{corpus}", 0) + 1
        self.entry["queries"] = {"total": len(self.done), **counts}
        self.entry["runs"][-1]["translated"] = self.added
        self._write_provenance()

    def _check_header(self) -> None:
        """A row is appended as we write it, so the file must have our columns."""
        if self.path.suffix != ".tsv":
            return
        with self.path.open("rb") as file:
            first = file.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
        if first.split("\t") != list(Row._fields):
            raise RequestError(
                f"{self.path} does not begin with {header().rstrip()!r} (separated by tabs), so it cannot be continued:"
                " write another file"
            )

    def _repair(self) -> None:
        """End the last line, or remove it if it was cut off while it was written."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        tail = data[end:]
        if not tail:
            return
        is_header = end == 0 and self.path.suffix == ".tsv"
        if is_header or not self._is_cut(tail):
            with self.path.open("ab") as file:
                file.write(b"\n")
        elif self.provenance:  # a file that we did not write is left to its reader, who says what is wrong with it
            with self.path.open("rb+") as file:
                file.truncate(end)
            self.tell(f"{self.path}: removed the unfinished last line of a run that was stopped")

    def _is_cut(self, tail: bytes) -> bool:
        """Whether a last line without an end is only the beginning of one."""
        is_json = self.path.suffix == ".jsonl"
        try:
            row = parse_row(tail.decode("utf-8-sig").rstrip("\r"), None if is_json else Row._fields)
        except (UnicodeDecodeError, DataError):
            return True
        # The last column of TSV is the source: cut off within it, it reads like another source.
        names = {self.source, *self.provenance}
        return not is_json and any(name.startswith(row.source) and name != row.source for name in names)

    def _read_provenance(self) -> dict[str, Any]:
        if not self.sidecar.exists():
            return {}
        try:
            value = read_json(self.sidecar)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self.sidecar}: {_line(error)}; restore it, or write another file") from error
        sources = value.get("sources") if isinstance(value, dict) else None
        entries = sources.values() if isinstance(sources, dict) else [None]
        if not all(isinstance(e, dict) and isinstance(e.get("topics"), dict) and "runs" in e for e in entries):
            raise DataError(f"{self.sidecar} is not a provenance file: restore it, or write another file")
        return cast("dict[str, Any]", sources)

    def _write_provenance(self) -> None:
        text = json.dumps({"sources": self.provenance}, indent=2, ensure_ascii=False) + "\n"
        _replace(self.sidecar, text.encode())


def _split(data: bytes) -> list[bytes]:
    """Lines with their ends; only a line feed ends a line."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _replace(path: Path, data: bytes) -> None:
    try:
        with atomic(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise DataError(f"cannot write {path}: {reason(error)}") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _versions() -> dict[str, str]:
    import torch
    import transformers

    return {"hybrid_bench": VERSION, "transformers": transformers.__version__, "torch": torch.__version__}


# -- the model -----------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What happened to texts on the way."""

    cut: int = 0
    unfinished: int = 0
    empty: list[tuple[str, str, str]] = field(default_factory=list)


class _Direction(NamedTuple):
    """How a model is told the languages.

    Attributes:
        prefix: What is put before each text.
        token: Id of the token that the prefix must become, where it stands for one.
        from_code: What the tokenizer is told about the text's language.
        to_id: Id of the token that begins a translation into the target language.
        to_starts: Whether this token is the very first one that the decoder reads, rather than the second.
    """

    prefix: str = ""
    token: int | None = None
    from_code: str | None = None
    to_id: int | None = None
    to_starts: bool = False


class _Model:
    """A translation model: tokenizer and configuration at once, the weights when `load` is called."""

    def __init__(self, request: TranslateRequest, tell: Callable[[str], None]) -> None:
        self.request, self.tell = request, tell
        self.name = request.model_name
        self.where = str(request.folder or request.model)
        with self._loading():
            from transformers import AutoConfig, AutoTokenizer

            self.revision, pinned = self._revision()
            self.pinned = {} if pinned is None else {"revision": pinned}
            self.config = AutoConfig.from_pretrained(self.where, **self.pinned)
            if not getattr(self.config, "is_encoder_decoder", False):
                raise ModelError(
                    f"{self.name} is no translation model of the kind that is supported (a {self.config.model_type}"
                    " without encoder and decoder): take NLLB, M2M100, mBART, Marian, MADLAD or T5"
                )
            with warnings.catch_warnings():
                # Marian's tokenizer asks for a package that it does not use when it is called.
                warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
                self.tokenizer: Any = AutoTokenizer.from_pretrained(self.where, **self.pinned)
        longest = getattr(self.config, "max_position_embeddings", None)
        if longest is not None and request.max_length > longest:
            raise RequestError(f"max_length {request.max_length}: {self.name} reads at most {longest} tokens")
        self.directions = self._directions()

    @property
    def identity(self) -> dict[str, Any]:
        """What a translation depends on."""
        request = self.request
        return {
            "model": self.name,
            "revision": self.revision,
            "dtype": request.dtype,
            "num_beams": request.num_beams,
            "max_length": request.max_length,
            "prefix": request.prefix,
        }

    def load(self, device: str) -> None:
        """Load the weights."""
        request = self.request
        with self._loading():
            import torch
            from transformers import AutoModelForSeq2SeqLM

            model, info = AutoModelForSeq2SeqLM.from_pretrained(
                self.where, dtype=getattr(torch, request.dtype), output_loading_info=True, **self.pinned
            )
            untrained = sorted(key for key in info["missing_keys"] if re.search(r"decoder\.(layers|block)\.", key))
            if untrained:  # an encoder's checkpoint: transformers fills what it lacks with random numbers
                raise ModelError(
                    f"{self.name} is no translation model: it lacks the weights of {untrained[0]} and"
                    f" {len(untrained) - 1} more"
                )
            self.model: Any = model.to(device).eval()
        generation = self.model.generation_config
        generation.max_length = None  # replaced by max_new_tokens, which does not count the first token
        generation.max_new_tokens = request.max_length
        generation.num_beams = request.num_beams
        generation.num_return_sequences = 1
        generation.do_sample = False

    @property
    def settings(self) -> dict[str, Any]:
        """How it generates, as far as that differs from the defaults of transformers."""
        settings: dict[str, Any] = self.model.generation_config.to_diff_dict()
        settings.pop("transformers_version", None)  # stated with each run
        return settings

    def translate(self, pair: tuple[str, str], texts: Sequence[str], tally: _Tally) -> Iterator[dict[int, str]]:
        """Translations by position in `texts`, batch by batch, longest texts first.

        A translation is one line without white space around it; empty if the model gave nothing.
        """
        direction = self.directions[pair]
        rows = self._tokens(direction, texts, tally)
        order = sorted(range(len(rows)), key=lambda position: -len(rows[position]))
        size = self.request.batch_size
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            try:
                ids, unfinished = self._generate(direction, [rows[position] for position in chosen])
                decoded = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            except Exception as error:  # whatever the model's code may raise
                raise self._failure(error, pair) from error
            tally.unfinished += unfinished
            yield {position: " ".join(text.split()) for position, text in zip(chosen, decoded, strict=True)}

    def _tokens(self, direction: _Direction, texts: Sequence[str], tally: _Tally) -> list[list[int]]:
        """Token ids of each text, as the encoder reads it."""
        if direction.from_code is not None:
            self.tokenizer.src_lang = direction.from_code
        prefixed = [direction.prefix + text for text in texts]
        rows: list[list[int]] = self.tokenizer(prefixed)["input_ids"]
        limit = self.request.max_length
        long = [position for position, row in enumerate(rows) if len(row) > limit]
        if long:
            tally.cut += len(long)
            short = self.tokenizer([prefixed[position] for position in long], truncation=True, max_length=limit)
            for position, row in zip(long, short["input_ids"], strict=True):
                rows[position] = row
        if direction.token is not None and not all(direction.token in row for row in rows):
            raise ModelError(f"the tokenizer of {self.name} does not take '{direction.prefix.strip()}' for one token")
        return rows

    def _generate(self, direction: _Direction, rows: Sequence[list[int]]) -> tuple[list[list[int]], int]:
        """Token ids of the translations, without what was given, and how many ended at the longest length."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        device = self.model.device
        padding = self.tokenizer.pad_token_id
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=padding)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        given = 1
        options: dict[str, int] = {}
        if direction.to_id is not None and direction.to_starts:
            options["decoder_start_token_id"] = direction.to_id
        elif direction.to_id is not None:
            options["forced_bos_token_id"] = direction.to_id
            given = 2
        with torch.inference_mode():
            output: Tensor = self.model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), **options)
        generated = output[:, 1:] != padding
        unfinished = int((generated.sum(dim=1) >= self.request.max_length).sum())
        return output[:, given:].tolist(), unfinished

    def _failure(self, error: Exception, pair: tuple[str, str]) -> HybridBenchError:
        import torch

        if isinstance(error, HybridBenchError):
            return error
        if isinstance(error, torch.OutOfMemoryError):
            size = self.request.batch_size
            return ModelError(
                f"{self.name}: out of memory with batch size {size}, {self.request.num_beams} beams and"
                f" {self.request.dtype}: give a smaller batch size, e.g. {max(1, size // 2)}; what is done is kept"
            )
        return ModelError(f"{self.name} failed to translate from {pair[0]} into {pair[1]}: {_line(error)}")

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        """Turn the errors of loading into ours, and keep quiet where nobody watches."""
        try:
            with offline_if_unreachable(), _quiet():
                yield
        except HybridBenchError:
            raise
        except Exception as error:  # transformers, the hub, and the parsers of files raise errors of many kinds
            missing = _missing_package(error)
            if missing:
                raise ModelError(
                    f"cannot load {self.name}: its tokenizer needs {missing}, which is not installed:"
                    f" {how_to_install('translate')}"
                ) from error
            hint = "" if self.request.folder else " (without network, give the folder of a saved model instead)"
            raise ModelError(f"cannot load {self.name}: {_line(error)}{hint}") from error

    def _revision(self) -> tuple[str, str | None]:
        """What the model is exactly, and the commit to load from the hub; None for a folder."""
        if self.request.folder is not None:
            if not (self.request.folder / "config.json").is_file():
                raise ModelError(f"{self.request.folder} holds no model: config.json is not in it")
            return folder_hash(self.request.folder), None
        if self.where.startswith(("/", "./", "../", "~")) or "/" not in self.where:
            raise RequestError(
                f"no model '{self.where}': there is no such folder, and a name on the model hub is like {DEFAULT_MODEL}"
            )
        from huggingface_hub import hf_hub_download

        # A file in the hub's cache lies in a folder named by the commit that the revision stood for.
        commit = Path(hf_hub_download(self.where, "config.json", revision=self.request.revision)).parent.name
        return commit, commit

    # -- how languages are told ------------------------------------------------------------------------------------

    def _directions(self) -> dict[tuple[str, str], _Direction]:
        """How each direction of the request is told; `ModelError` if the model cannot be told one."""
        pairs = self.request.directions
        if self.config.model_type == "marian":
            return self._not_by_prefix(self._marian(pairs))
        if self._id("eng_Latn") is not None:
            return self._not_by_prefix(self._by_code(pairs, {code: nllb for code, (nllb, _) in _CODES.items()}))
        if self._id("__en__") is not None:
            return self._not_by_prefix(self._by_code(pairs, {code: code for code in _CODES}, "__{}__"))
        if self._id("en_XX") is not None:
            # mBART-25 starts a translation with its language, mBART-50 with a token for all languages.
            starts = self._id("af_ZA") is None
            mbart = {code: mbart for code, (_, mbart) in _CODES.items() if mbart is not None}
            return self._not_by_prefix(self._by_code(pairs, mbart, starts=starts))
        if self._id("<2en>") is not None:
            self._refuse(code for _, code in pairs if self._id(f"<2{code}>") is None)
            return self._not_by_prefix({(c, q): _Direction(f"<2{q}> ", self._id(f"<2{q}>")) for c, q in pairs})
        return self._by_prefix(pairs)

    def _id(self, token: str) -> int | None:
        """Id of a token; None if the tokenizer does not know it."""
        found = self.tokenizer.convert_tokens_to_ids(token)
        return None if found is None or found == self.tokenizer.unk_token_id else int(found)

    def _refuse(self, codes: Iterable[str]) -> None:
        """`ModelError` if there are languages that the model does not know."""
        unknown = ", ".join(f"{name_of(code)} ({code})" for code in dict.fromkeys(codes))
        if unknown:
            raise ModelError(f"{self.name} does not know {unknown}: leave the language out, or take another model")

    def _not_by_prefix(self, directions: dict[tuple[str, str], _Direction]) -> dict[tuple[str, str], _Direction]:
        if self.request.prefix is not None:
            raise RequestError(f"{self.name} is not told languages by a prefix: leave out '{self.request.prefix}'")
        return directions

    def _by_code(
        self, pairs: Collection[tuple[str, str]], codes: Mapping[str, str], token: str = "{}", *, starts: bool = False
    ) -> dict[tuple[str, str], _Direction]:
        """NLLB, M2M100 and mBART: the tokenizer is told the query's language, the decoder that of the translation."""
        ids = {code: self._id(token.format(codes[code])) for pair in pairs for code in pair if code in codes}
        self._refuse(code for pair in pairs for code in pair if ids.get(code) is None)
        return {(c, q): _Direction(from_code=codes[c], to_id=ids[q], to_starts=starts) for c, q in pairs}

    def _by_prefix(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], _Direction]:
        """T5 and others: told in words."""
        if self.request.prefix is not None:
            named = {
                (c, q): self.request.prefix.replace("{source}", name_of(c)).replace("{target}", name_of(q))
                for c, q in pairs
            }
            return {pair: _Direction(prefix) for pair, prefix in named.items()}
        configured = getattr(self.config, "task_specific_params", None) or {}
        known = {(c, q): (configured.get(f"translation_{c}_to_{q}") or {}).get("prefix") for c, q in pairs}
        missing = [f"from {c} into {q}" for (c, q), prefix in known.items() if prefix is None]
        if missing:
            raise ModelError(
                f"{self.name} does not say how to ask for a translation {missing[0]}: give a prefix, such as"
                " 'translate {source} to {target}: '"
            )
        return {pair: _Direction(prefix) for pair, prefix in known.items() if prefix is not None}

    def _marian(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], _Direction]:
        """Made for one pair of languages, or for several languages on a side."""
        named = re.search(r"opus-mt-(?:tc-\w+-|tiny-)?(\w+)-(\w+)$", self.name)
        said = {"source": self.tokenizer.source_lang, "target": self.tokenizer.target_lang}
        source, target = (said[side] or (named[at] if named else None) for at, side in enumerate(said, start=1))
        targets = {code.removeprefix(">>").removesuffix("<<") for code in self.tokenizer.supported_language_codes}
        directions = {}
        for c, q in pairs:
            marks = [name for name in _marian_names(q) if name in targets]
            if (_is_one(source) and source not in _marian_names(c)) or (
                not marks and (target is None or target not in _marian_names(q))
            ):
                into = f"into {target}" if not targets else f"into one of {len(targets)} languages"
                unsaid = "; write source_lang and target_lang into its tokenizer_config.json" if target is None else ""
                raise ModelError(
                    f"{self.name} translates from {source} {into}, not from {c} into {q}: take another model{unsaid}"
                )
            if not _is_one(source):
                self.tell(f"{self.name} does not say whether it reads {name_of(c)}: it translates from {source}")
            prefix = f">>{marks[0]}<<" if marks else ""
            directions[c, q] = _Direction(f"{prefix} ", self._id(prefix)) if prefix else _Direction()
        return directions


def _marian_names(code: str) -> tuple[str, ...]:
    """What a language may be called by Marian's models, the most exact first."""
    iso, script = language(code).tag.split("-")
    names = (*_MARIAN.get(code, ()), f"{iso}_{script}", iso, code)
    return (*names, *(f"{name}_{script}" for name in names if "_" not in name))


def _is_one(name: str | None) -> bool:
    """Whether Marian's name of the source stands for one language, not for a family (``ROMANCE``, ``mul``, ``a+b``)."""
    return name is not None and (len(name) == 2 or any(name in _marian_names(code) for code in LANGUAGES))


def _missing_package(error: BaseException) -> str | None:
    """The package for tokenizers whose absence caused an error; None if it had another cause."""
    for package, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")):
        if package in str(error).lower() and not _is_installed(module):
            return package
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing, or the module was made unavailable
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers where stderr is not a terminal, as with ours."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers types most of its code, not this
    try:
        yield
    finally:
        logging.enable_progress_bar()  # type: ignore[no-untyped-call] # as above
