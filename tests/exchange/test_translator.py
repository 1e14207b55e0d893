"""Translation by real models, tiny ones: untrained, or trained on a few questions until they know them by heart."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART_CODES
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB_CODES

from hybrid_bench.data.translations import check_ids, read_translations
from hybrid_bench.engine.models import folder_hash
from hybrid_bench.errors import DataError, HybridBenchError, ModelError, RequestError
from hybrid_bench.exchange.translator import _CODES, TranslateOutcome, TranslateRequest, provenance_path, translate
from hybrid_bench.languages import LANGUAGES

SIZES: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 128,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "init_std": 0.1,
}
TOLD: list[str] = []

Topics = Callable[[str], Mapping[str, str]]


class Lesson(NamedTuple):
    """A query and what it is in another language."""

    query_id: str
    corpus: str
    query: str
    text: str
    translation: str


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@pytest.fixture(scope="session")
def miracl(data_dir: Path) -> Topics:
    """The first 10 of MIRACL's dev queries in a language."""

    def topics(code: str) -> Mapping[str, str]:
        lines = (data_dir / "miracl" / f"topics.miracl-v1.0-{code}-dev.tsv").read_text(encoding="utf-8").split("\n")
        return {query_id: text for query_id, _, text in (line.partition("\t") for line in lines[:10])}

    return topics


@pytest.fixture(scope="session")
def lessons(data_dir: Path) -> list[Lesson]:
    """Five questions of XQuAD-R from English into German and Spanish, and one text that is read in two languages."""
    questions: dict[str, dict[str, str]] = {}
    for code in ("en", "de", "es"):
        articles = json.loads((data_dir / "xquad-r" / f"{code}.json").read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles[:2] for paragraph in article["paragraphs"]]
        questions[code] = {qa["id"]: qa["question"].strip() for paragraph in paragraphs for qa in paragraph["qas"]}
    distinct = {text: query_id for query_id, text in questions["en"].items()}
    ids = [distinct[text] for text in sorted(distinct, key=len)[:5]]
    return [
        *(Lesson(i, "en", code, questions["en"][i], questions[code][i]) for i in ids for code in ("de", "es")),
        Lesson("same", "de", "en", "Gift?", "Poison?"),
        Lesson("same", "es", "en", "Gift?", "A present?"),
    ]


@pytest.fixture(scope="session")
def pieces(miracl: Topics, lessons: list[Lesson]) -> Tokenizer:
    """A BPE vocabulary with the pieces of a few languages; the first four are those of fairseq's models."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    texts = [text for code in ("en", "de", "sw", "th") for text in miracl(code).values()]
    texts += [text for lesson in lessons for text in (lesson.text, lesson.translation)]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def scored(pieces: Tokenizer, first: Sequence[str], last: Sequence[str] = ()) -> list[tuple[str, float]]:
    """A vocabulary for tokenizers of the unigram kind: longer pieces are better."""
    words = sorted(set(pieces.get_vocab()) - {"<s>", "<pad>", "</s>", "<unk>"})
    return [(piece, 0.0) for piece in first] + [(word, -10.0 / len(word)) for word in words] + [(p, 0.0) for p in last]


def save(folder: Path, tokenizer: Any, model: Any) -> Path:
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def nllb(tmp_path_factory: pytest.TempPathFactory, pieces: Tokenizer, lessons: list[Lesson]) -> Path:
    """A model of NLLB's kind that knows the lessons by heart."""
    bpe = json.loads(pieces.to_str())["model"]
    merges: Any = [tuple(merge) for merge in bpe["merges"]]
    tokenizer = NllbTokenizer(vocab=bpe["vocab"], merges=merges)
    with seeded():
        config = M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZES)
        model: Any = M2M100ForConditionalGeneration(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        inputs, labels = [], []
        for lesson in lessons:
            tokenizer.src_lang, tokenizer.tgt_lang = _CODES[lesson.corpus][0], _CODES[lesson.query][0]
            inputs.append(torch.tensor(tokenizer(lesson.text)["input_ids"]))
            labels.append(torch.tensor([2, *tokenizer(text_target=lesson.translation)["input_ids"]]))
        read = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=1)
        said = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=1)
        wanted = said[:, 1:].masked_fill(said[:, 1:] == 1, -100)
        wanted[:, 0] = -100  # which language is asked for cannot be known from the text
        for _ in range(60):
            loss = model(
                input_ids=read, attention_mask=(read != 1).long(), decoder_input_ids=said[:, :-1], labels=wanted
            ).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.05
    return save(tmp_path_factory.mktemp("models") / "nllb-tiny", tokenizer, model)


@pytest.fixture(scope="session")
def mbart(tmp_path_factory: pytest.TempPathFactory, pieces: Tokenizer) -> Path:
    with seeded():
        tokenizer = MBart50Tokenizer(vocab=scored(pieces, ["<s>", "<pad>", "</s>", "<unk>"]))
        config = MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZES)
        return save(tmp_path_factory.mktemp("models") / "mbart-50", tokenizer, MBartForConditionalGeneration(config))


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory, pieces: Tokenizer) -> Path:
    return save_t5(tmp_path_factory.mktemp("models") / "t5", pieces)


def save_t5(folder: Path, pieces: Tokenizer, tokens: Sequence[str] = (), **options: Any) -> Path:
    with seeded():
        tokenizer = T5Tokenizer(vocab=scored(pieces, ["<pad>", "</s>", "<unk>"], tokens), extra_ids=0)
        sizes: dict[str, Any] = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2} | options
        sizes |= {"vocab_size": len(tokenizer), "decoder_start_token_id": 0, "initializer_factor": 5.0}
        config = T5Config(**sizes)
        return save(folder, tokenizer, T5ForConditionalGeneration(config))


@pytest.fixture(scope="session")
def spm(tmp_path_factory: pytest.TempPathFactory, miracl: Topics) -> tuple[Path, list[str]]:
    """A model of sentencepiece, and its pieces."""
    sentencepiece: Any = pytest.importorskip("sentencepiece")
    path = tmp_path_factory.mktemp("spm") / "spm.model"
    texts = [text for code in ("en", "de", "sw") for text in miracl(code).values()]
    options = {"vocab_size": 200, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_prefix=str(path)[:-6], **options)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return path, [processor.id_to_piece(at) for at in range(processor.get_piece_size())]


def save_marian(
    folder: Path, spm: tuple[Path, list[str]], source: str | None, target: str | None, marks: Sequence[str] = ()
) -> Path:
    """A model of Marian's kind, made for this pair; `marks` are its target languages where there are several."""
    from transformers import MarianTokenizer

    path, words = spm
    names = ["</s>", "<unk>", *dict.fromkeys(word for word in words if not word.startswith("<"))]
    names += [f">>{mark}<<" for mark in marks] + ["<pad>"]
    vocabulary = folder.parent / f"{folder.name}.vocab.json"
    vocabulary.write_text(json.dumps({name: at for at, name in enumerate(names)}))
    with seeded(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        tokenizer = MarianTokenizer(str(path), str(path), str(vocabulary), source_lang=source, target_lang=target)
        ids: dict[str, Any] = {
            "pad_token_id": len(names) - 1,
            "eos_token_id": 0,
            "decoder_start_token_id": len(names) - 1,
        }
        config = MarianConfig(vocab_size=len(names), **ids, forced_eos_token_id=0, **SIZES | {"init_std": 0.5})
        return save(folder, tokenizer, MarianMTModel(config))


def request(
    model: Path | str, out: Path, corpora: str = "en", queries: str = "de es", **options: Any
) -> TranslateRequest:
    options |= {"model": str(model)}
    defaults: dict[str, Any] = {"max_length": 24, "num_beams": 2, "batch_size": 4, "device": "cpu"} | options
    return TranslateRequest(out, tuple(corpora.split()), tuple(queries.split()), **defaults)


def done(asked: TranslateRequest, topics: Topics) -> TranslateOutcome:
    """Translate; what was told is in `TOLD`."""
    TOLD.clear()
    return translate(asked, topics, TOLD.append)


def texts_of(out: Path) -> Mapping[tuple[str, str], Mapping[str, str]]:
    (translations,) = read_translations([out]).values()
    return translations.texts


def provenance(out: Path) -> dict[str, Any]:
    """What the provenance says of the only source."""
    (entry,) = json.loads(provenance_path(out).read_text(encoding="utf-8"))["sources"].values()
    assert isinstance(entry, dict)
    return entry


def refusal(asked: TranslateRequest, topics: Topics, kind: type[HybridBenchError]) -> str:
    """What a person reads: one line."""
    with pytest.raises(kind) as error:
        done(asked, topics)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- what is translated --------------------------------------------------------------------------------------------


class TestTranslations:
    @pytest.mark.parametrize("batch_size", [1, 3, 32])
    def test_each_query_into_the_language_asked_for(
        self, tmp_path: Path, nllb: Path, lessons: list[Lesson], batch_size: int
    ) -> None:
        topics = {
            c: {lesson.query_id: lesson.text for lesson in lessons if lesson.corpus == c} for c in ("en", "de", "es")
        }
        asked = request(nllb, tmp_path / "mt.tsv", "en de es", "de es en", batch_size=batch_size, max_length=60)
        outcome = done(asked, lambda code: topics[code])
        found = texts_of(outcome.out)
        for lesson in lessons:  # two of them have the same id and the same text, in different languages
            assert found[lesson.corpus, lesson.query][lesson.query_id] == lesson.translation
        assert outcome.translated == 14  # from de into es and from es into de too, which it did not learn

    def test_miracl_queries_by_batches_of_different_size(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        outs = [tmp_path / f"{size}.jsonl" for size in (1, 3, 64)]
        for size, out in zip((1, 3, 64), outs, strict=True):
            outcome = done(request(nllb, out, "en sw", "de en", batch_size=size), miracl)
            assert (outcome.translated, outcome.kept, outcome.empty) == (30, 0, ())
        assert outs[0].read_bytes() == outs[1].read_bytes() == outs[2].read_bytes()
        (translations,) = read_translations(outs[:1]).values()
        check_ids(translations, {code: list(miracl(code)) for code in ("en", "sw")})

    def test_the_order_is_that_of_languages_and_queries(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        out = done(request(nllb, tmp_path / "mt.jsonl", "sw en", "es de", batch_size=2), miracl).out
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert [(row["corpus_language"], row["query_language"], row["query_id"]) for row in rows] == [
            (corpus, query, query_id)
            for corpus in ("en", "sw")
            for query in ("de", "es")
            for query_id in miracl(corpus)
        ]

    def test_all_of_our_languages(self, tmp_path: Path, nllb: Path) -> None:
        everything = " ".join(LANGUAGES)
        outcome = done(request(nllb, tmp_path / "mt.tsv", "en", everything, num_beams=1), lambda _: {"1": "Why?"})
        assert {query for _, query in texts_of(outcome.out)} | {q for _, _, q in outcome.empty} == LANGUAGES.keys() - {
            "en"
        }

    def test_a_limit_takes_the_first_queries_and_can_be_raised(
        self, tmp_path: Path, nllb: Path, miracl: Topics
    ) -> None:
        asked = request(nllb, tmp_path / "mt.tsv", "en", "de")
        first = done(replace(asked, limit=3), miracl)
        assert list(texts_of(first.out)["en", "de"]) == list(miracl("en"))[:3]
        second = done(asked, miracl)
        assert (second.translated, second.kept) == (7, 3)
        assert list(texts_of(second.out)["en", "de"]) == list(miracl("en"))

    def test_long_queries_and_long_translations_are_counted(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        outcome = done(request(nllb, tmp_path / "mt.tsv", "en", "de", max_length=6), miracl)
        assert 0 < outcome.cut <= 10
        assert 0 < outcome.unfinished <= 10
        assert done(request(nllb, tmp_path / "all.tsv", "en", "de", max_length=100), miracl).cut == 0

    def test_what_comes_out_empty_is_told_and_tried_again(self, tmp_path: Path, mbart: Path, miracl: Topics) -> None:
        model = MBartForConditionalGeneration.from_pretrained(mbart)
        model.final_logits_bias[0, 2] = 1e6  # ends every text at once
        copy = Path(shutil.copytree(mbart, tmp_path / "silent"))
        model.save_pretrained(copy)
        outcome = done(request(copy, tmp_path / "mt.tsv", "en", "de", limit=3), miracl)
        assert outcome.empty == tuple(("en", query_id, "de") for query_id in sorted_by_length(miracl("en"), 3))
        assert (outcome.translated, outcome.kept) == (0, 0)
        assert done(request(copy, tmp_path / "mt.tsv", "en", "de", limit=3), miracl).empty == outcome.empty

    def test_half_precision(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        outcome = done(request(nllb, tmp_path / "mt.tsv", "en", "de", dtype="bfloat16", limit=2), miracl)
        assert outcome.translated == 2
        assert provenance(outcome.out)["identity"]["dtype"] == "bfloat16"

    def test_nothing_is_said_where_nobody_watches(
        self, tmp_path: Path, nllb: Path, miracl: Topics, capfd: pytest.CaptureFixture[str]
    ) -> None:
        done(request(nllb, tmp_path / "mt.tsv", "en", "de", limit=2), miracl)
        assert capfd.readouterr() == ("", "")
        assert TOLD == []


def sorted_by_length(queries: Mapping[str, str], limit: int) -> list[str]:
    """The first queries, longest first, as batches are formed (here the number of characters tells)."""
    return sorted(list(queries)[:limit], key=lambda query_id: -len(queries[query_id]))


# -- going on ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, nllb: Path, miracl: Topics) -> dict[str, Path]:
    """The files that uninterrupted runs write, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    return {
        suffix: done(request(nllb, folder / f"mt.{suffix}", "th", "de es"), miracl).out for suffix in ("tsv", "jsonl")
    }


class TestGoingOn:
    @pytest.fixture
    def copy(self, whole: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
        copies = {}
        for suffix, path in whole.items():
            copies[suffix] = Path(shutil.copy(path, tmp_path / path.name))
            shutil.copy(provenance_path(path), provenance_path(copies[suffix]))
        return copies

    @pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
    def test_a_complete_file_is_left_alone(
        self, copy: dict[str, Path], nllb: Path, miracl: Topics, suffix: str
    ) -> None:
        before = {path: path.read_bytes() for path in (copy[suffix], provenance_path(copy[suffix]))}
        outcome = done(request(nllb, copy[suffix], "th", "es de", batch_size=1), miracl)
        assert (outcome.translated, outcome.kept) == (0, 20)
        assert {path: path.read_bytes() for path in before} == before

    @pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
    @pytest.mark.parametrize(
        "cut", ["source", "text", "character", "line break", "between lines", "after the first line"]
    )
    def test_after_a_kill_only_what_is_missing_is_done(
        self, copy: dict[str, Path], nllb: Path, miracl: Topics, suffix: str, cut: str
    ) -> None:
        content = copy[suffix].read_bytes()
        start = content.rindex(b"\n", 0, len(content) // 2) + 1
        end = content.index(b"\n", start)
        line = content[start:end].decode()
        text = content.index(
            json.loads(line)["text"].encode() if suffix == "jsonl" else line.split("\t")[3].encode(), start
        )
        multibyte = next(at for at in range(text, len(content)) if content[at] >= 0xC0)
        first_line = content.index(b"\n") + 1
        stop = {
            "source": end - 3,
            "text": text + 2,
            "character": multibyte + 1,
            "line break": end,
            "between lines": end + 1,
            "after the first line": first_line,
        }[cut]
        copy[suffix].write_bytes(content[:stop])
        kept = content[:stop].count(b"\n") - (suffix == "tsv") + (cut == "line break")
        outcome = done(request(nllb, copy[suffix], "th", "de es"), miracl)
        assert (outcome.translated, outcome.kept) == (20 - kept, kept)
        assert copy[suffix].read_bytes() == content
        assert len(TOLD) == (cut in {"source", "text", "character"})
        assert all(f"{copy[suffix]}: removed the unfinished last line" in told for told in TOLD)

    def test_a_full_disk_in_the_middle(
        self, tmp_path: Path, whole: dict[str, Path], nllb: Path, miracl: Topics
    ) -> None:
        out = tmp_path / "mt.tsv"
        with file_size_limit(1500):
            assert f"cannot write {out}: File too large; what it holds so far is kept" in refusal(
                request(nllb, out, "th", "de es"), miracl, DataError
            )
        assert out.stat().st_size == 1500
        outcome = done(request(nllb, out, "th", "de es"), miracl)
        assert outcome.kept > 0
        assert out.read_bytes() == whole["tsv"].read_bytes()

    def test_a_process_that_is_killed_while_it_writes(
        self, tmp_path: Path, whole: dict[str, Path], nllb: Path, miracl: Topics
    ) -> None:
        asked = request(nllb, tmp_path / "mt.tsv", "th", "de es")
        program = f"""
import resource, signal
from pathlib import Path, PosixPath
from hybrid_bench.exchange.translator import TranslateRequest, translate
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the operating system ends the process where the file gets too long
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
translate({asked!r}, lambda _: {miracl("th")!r}, print)
"""
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        killed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGXFSZ, killed.stderr
        assert asked.out.stat().st_size == 1500
        assert [run["translated"] for run in provenance(asked.out)["runs"]] == [None]
        outcome = done(asked, miracl)
        assert (outcome.translated + outcome.kept, outcome.kept > 0) == (20, True)
        assert asked.out.read_bytes() == whole["tsv"].read_bytes()
        assert provenance(asked.out)["queries"]["total"] == 20
        assert [run["translated"] for run in provenance(asked.out)["runs"]] == [None, outcome.translated]

    def test_more_languages_later(self, tmp_path: Path, whole: dict[str, Path], nllb: Path, miracl: Topics) -> None:
        out = tmp_path / "mt.tsv"
        done(request(nllb, out, "th", "es"), miracl)
        outcome = done(request(nllb, out, "th", "es de"), miracl)
        assert (outcome.translated, outcome.kept) == (10, 10)
        assert out.read_bytes() == whole["tsv"].read_bytes()
        assert [run["translated"] for run in provenance(out)["runs"]] == [10, 10]

    def test_two_sources_in_one_file(
        self, copy: dict[str, Path], whole: dict[str, Path], nllb: Path, miracl: Topics
    ) -> None:
        out = copy["tsv"]
        human = b"sw\t0\ten\tBy hand\thuman\n"
        out.write_bytes(out.read_bytes() + human[:-1])  # by an editor that does not end the last line
        done(request(nllb, out, "th", "de", num_beams=1, source="greedy"), miracl)
        assert out.read_bytes().startswith(whole["tsv"].read_bytes() + human)
        found = read_translations([out])
        assert list(found) == ["local/nllb-tiny", "human", "greedy"]
        assert found["local/nllb-tiny"] == read_translations([whole["tsv"]])["local/nllb-tiny"]
        assert len(found["greedy"].texts["th", "de"]) == 10
        sources = json.loads(provenance_path(out).read_text(encoding="utf-8"))["sources"]
        assert {name: entry["identity"]["num_beams"] for name, entry in sources.items()} == {
            "local/nllb-tiny": 2,
            "greedy": 1,
        }

    def test_a_removed_file_is_begun_anew_even_with_other_options(
        self, copy: dict[str, Path], nllb: Path, miracl: Topics
    ) -> None:
        copy["tsv"].unlink()
        outcome = done(request(nllb, copy["tsv"], "th", "de", num_beams=1), miracl)
        assert outcome.translated == 10
        assert provenance(outcome.out)["identity"]["num_beams"] == 1
        assert len(provenance(outcome.out)["runs"]) == 1


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond this; a real error of the operating system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestRefusedToGoOn:
    """What would mix two translators under one name."""

    @pytest.fixture
    def begun(self, tmp_path: Path, nllb: Path, miracl: Topics) -> TranslateRequest:
        asked = request(nllb, tmp_path / "mt.tsv", "en", "de", limit=2)
        done(asked, miracl)
        return asked

    @pytest.mark.parametrize(
        ("options", "clause"),
        [
            ({"num_beams": 1}, "num_beams 2 (now 1)"),
            ({"max_length": 30}, "max_length 24 (now 30)"),
            ({"dtype": "float16", "num_beams": 3}, 'dtype "float32" (now "float16"), num_beams 2 (now 3)'),
        ],
    )
    def test_other_options(self, begun: TranslateRequest, miracl: Topics, options: dict[str, Any], clause: str) -> None:
        before = begun.out.read_bytes()
        text = refusal(replace(begun, limit=None, **options), miracl, RequestError)
        assert clause in text
        assert "(source), or write another file" in text
        assert begun.out.read_bytes() == before

    def test_batch_size_and_device_are_no_other_options(self, begun: TranslateRequest, miracl: Topics) -> None:
        assert done(replace(begun, batch_size=7, device=None), miracl).kept == 2

    def test_the_same_name_for_other_weights(
        self, begun: TranslateRequest, tmp_path: Path, nllb: Path, miracl: Topics
    ) -> None:
        other = Path(shutil.copytree(nllb, tmp_path / nllb.name))
        model = M2M100ForConditionalGeneration.from_pretrained(other)
        with torch.no_grad():
            model.model.shared.weight[7, 0] += 1e-3
        model.save_pretrained(other)
        text = refusal(replace(begun, model=str(other)), miracl, RequestError)
        assert f'revision "{folder_hash(nllb)}" (now "{folder_hash(other)}")' in text

    def test_other_queries_under_the_same_ids(self, begun: TranslateRequest, miracl: Topics) -> None:
        changed = {query_id: text.upper() for query_id, text in miracl("en").items()}
        assert "the queries of 'en' are not those" in refusal(begun, lambda _: changed, RequestError)

    def test_a_source_that_was_not_made_here(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        out = tmp_path / "mt.tsv"
        out.write_text("corpus_language\tquery_id\tquery_language\ttext\tsource\nen\t0\tde\tVon Hand\thuman\n")
        text = refusal(request(nllb, out, source="human"), miracl, RequestError)
        assert "translations by 'human', but mt.tsv.provenance.json does not say what made them" in text

    def test_another_process_writes(self, begun: TranslateRequest, miracl: Topics) -> None:
        with FileLock(begun.out.with_name(".mt.tsv.lock")):
            assert "another process translates into" in refusal(begun, miracl, RequestError)

    def test_a_file_with_other_columns(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        out = tmp_path / "mt.tsv"
        out.write_text("source\tcorpus_language\tquery_id\tquery_language\ttext\n")
        assert "does not begin with" in refusal(request(nllb, out), miracl, RequestError)

    def test_a_cut_off_file_of_others_is_not_repaired(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        (tmp_path / "mt.jsonl").write_text('{"corpus_language": "e')
        assert "mt.jsonl:1: not JSON" in refusal(request(nllb, tmp_path / "mt.jsonl"), miracl, DataError)
        assert (tmp_path / "mt.jsonl").read_text() == '{"corpus_language": "e'

    @pytest.mark.parametrize("content", ["{", "[]", '{"sources": {"x": {}}}', '{"sources": []}'])
    def test_a_damaged_provenance(self, begun: TranslateRequest, miracl: Topics, content: str) -> None:
        provenance_path(begun.out).write_text(content)
        assert "mt.tsv.provenance.json" in refusal(begun, miracl, DataError)


def test_provenance(tmp_path: Path, nllb: Path, miracl: Topics) -> None:
    import transformers

    from hybrid_bench.version import VERSION

    out = done(request(nllb, tmp_path / "mt.jsonl", "en sw", "de en", source="tiny", limit=3), miracl).out
    entry = provenance(out)
    assert entry["identity"] == {
        "model": "local/nllb-tiny",
        "revision": folder_hash(nllb),
        "dtype": "float32",
        "num_beams": 2,
        "max_length": 24,
        "prefix": None,
    }
    assert entry["generation"]["max_new_tokens"] == 24
    assert entry["generation"]["num_beams"] == 2
    assert entry["generation"].get("do_sample", False) is False
    assert entry["queries"] == {"total": 9, "de-en": 3, "de-sw": 3, "en-sw": 3}
    assert entry["topics"].keys() == {"en", "sw"}
    (run,) = entry["runs"]
    assert abs(time.time() - datetime.fromisoformat(run.pop("date")).timestamp()) < 600
    assert run == {
        "hybrid_bench": VERSION,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "device": "cpu",
        "batch_size": 4,
        "translated": 9,
    }


# -- how models are told languages ---------------------------------------------------------------------------------


class TestLanguageCodes:
    def test_nllb_knows_ours_in_the_same_script(self) -> None:
        assert _CODES.keys() == LANGUAGES.keys()
        individual = {"fas": "pes", "swa": "swh"}  # where our tag names the whole of several languages
        for code, (nllb, _) in _CODES.items():
            iso, script = LANGUAGES[code].tag.split("-")
            assert nllb == f"{individual.get(iso, iso)}_{script}"
            assert nllb in NLLB_CODES

    def test_mbart_knows_all_but_greek_and_yoruba(self) -> None:
        assert {code for code, (_, mbart) in _CODES.items() if mbart is None} == {"el", "yo"}
        assert not {code for code in MBART_CODES if code[:2] in {"el", "yo"}}
        assert all(mbart in MBART_CODES and mbart[:2] == code for code, (_, mbart) in _CODES.items() if mbart)

    def test_mbart_50(self, tmp_path: Path, mbart: Path, miracl: Topics) -> None:
        outcome = done(request(mbart, tmp_path / "mt.tsv", "en", "de sw", limit=3), miracl)
        found = texts_of(outcome.out)
        assert outcome.translated == 6
        assert found["en", "de"] != found["en", "sw"]  # the decoder was told another language
        assert not any(code in text for by_id in found.values() for text in by_id.values() for code in MBART_CODES)

    def test_a_language_that_the_model_does_not_know(self, tmp_path: Path, mbart: Path, miracl: Topics) -> None:
        text = refusal(request(mbart, tmp_path / "mt.tsv", "en", "el de yo"), miracl, ModelError)
        assert text.startswith("local/mbart-50 does not know Greek (el), Yoruba (yo)")
        text = refusal(request(mbart, tmp_path / "mt.tsv", "yo", "en"), miracl, ModelError)
        assert text.startswith("local/mbart-50 does not know Yoruba (yo): ")

    def test_mbart_25_begins_with_the_language(self, tmp_path: Path, pieces: Tokenizer, miracl: Topics) -> None:
        with seeded():
            tokenizer = MBartTokenizer(vocab=scored(pieces, ["<s>", "<pad>", "</s>", "<unk>"]))
            config = MBartConfig(vocab_size=len(tokenizer), **SIZES | {"init_std": 0.5})
            model: Any = MBartForConditionalGeneration(config)
        folder = save(tmp_path / "mbart-25", tokenizer, model)
        found = texts_of(done(request(folder, tmp_path / "mt.tsv", "en", "de fr", num_beams=1, limit=1), miracl).out)
        tokenizer.src_lang = "en_XX"
        (text,) = list(miracl("en").values())[:1]
        inputs = tokenizer([text], return_tensors="pt")
        start = tokenizer.convert_tokens_to_ids("fr_XX")
        ids = model.eval().generate(**inputs, decoder_start_token_id=start, max_new_tokens=24)
        (expected,) = tokenizer.batch_decode(ids, skip_special_tokens=True)
        assert list(found["en", "fr"].values()) == [" ".join(expected.split())]
        assert found["en", "fr"] != found["en", "de"]

    def test_madlad(self, tmp_path: Path, pieces: Tokenizer, miracl: Topics) -> None:
        folder = save_t5(tmp_path / "madlad", pieces, ["<2en>", "<2de>", "<2fi>"])
        outcome = done(request(folder, tmp_path / "mt.tsv", "en", "de fi", limit=3), miracl)
        assert texts_of(outcome.out)["en", "de"] != texts_of(outcome.out)["en", "fi"]
        text = refusal(request(folder, tmp_path / "mt.tsv", "en", "de sw"), miracl, ModelError)
        assert text.startswith("local/madlad does not know Swahili (sw)")

    def test_t5_by_the_prefix_of_its_configuration(self, tmp_path: Path, pieces: Tokenizer, miracl: Topics) -> None:
        tasks = {"translation_en_to_de": {"prefix": "translate English to German: "}}
        folder = save_t5(tmp_path / "t5", pieces, task_specific_params=tasks)
        configured = done(request(folder, tmp_path / "a.tsv", "en", "de", limit=3), miracl)
        by_hand = "translate {source} to {target}: "
        given = done(request(folder, tmp_path / "b.tsv", "en", "de", limit=3, prefix=by_hand), miracl)
        without = done(request(folder, tmp_path / "c.tsv", "en", "de", limit=3, prefix=""), miracl)
        assert texts_of(configured.out) == texts_of(given.out) != texts_of(without.out)
        text = refusal(request(folder, tmp_path / "d.tsv", "en", "de fr"), miracl, ModelError)
        assert "does not say how to ask for a translation from en into fr: give a prefix" in text

    def test_a_model_that_is_told_in_no_known_way(self, tmp_path: Path, t5: Path, miracl: Topics) -> None:
        assert "give a prefix" in refusal(request(t5, tmp_path / "mt.tsv", "en", "de"), miracl, ModelError)

    def test_a_prefix_that_would_be_translated(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        text = refusal(request(nllb, tmp_path / "mt.tsv", prefix="Translate: "), miracl, RequestError)
        assert text == "local/nllb-tiny is not told languages by a prefix: leave out 'Translate: '"


class TestWithSentencepiece:
    """M2M100 and Marian, whose tokenizers need that package."""

    def test_m2m100(self, tmp_path: Path, spm: tuple[Path, list[str]], miracl: Topics) -> None:
        from transformers import M2M100Tokenizer

        path, words = spm
        names = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *words])
        (tmp_path / "vocab.json").write_text(json.dumps({name: at for at, name in enumerate(names)}))
        with seeded():
            tokenizer = M2M100Tokenizer(str(tmp_path / "vocab.json"), str(path))
            config = M2M100Config(vocab_size=len(names) + 108, decoder_start_token_id=2, **SIZES)
            model: Any = M2M100ForConditionalGeneration(config)
            folder = save(tmp_path / "m2m100", tokenizer, model)
        found = texts_of(done(request(folder, tmp_path / "mt.tsv", "en", "de sw", num_beams=1, limit=1), miracl).out)
        assert found["en", "de"] != found["en", "sw"]
        tokenizer.src_lang = "en"
        inputs = tokenizer(list(miracl("en").values())[:1], return_tensors="pt")
        (ids,) = model.eval().generate(**inputs, forced_bos_token_id=tokenizer.get_lang_id("sw"), max_new_tokens=24)
        assert tokenizer.convert_ids_to_tokens(ids[:2].tolist()) == ["</s>", "__sw__"]
        assert list(found["en", "sw"].values()) == [tokenizer.decode(ids[2:], skip_special_tokens=True)]
        text = refusal(request(folder, tmp_path / "mt.tsv", "en", "te"), miracl, ModelError)
        assert text.startswith("local/m2m100 does not know Telugu (te)")

    def test_marian_for_one_pair(self, tmp_path: Path, spm: tuple[Path, list[str]], miracl: Topics) -> None:
        folder = save_marian(tmp_path / "opus-mt-en-de", spm, "en", "de")
        outcome = done(request(folder, tmp_path / "mt.tsv", "en", "de"), miracl)
        assert len(texts_of(outcome.out)["en", "de"]) == outcome.translated > 0
        assert outcome.translated + len(outcome.empty) == 10
        for corpora, queries in (("en", "fr"), ("de", "en"), ("en", "de fr")):
            text = refusal(request(folder, tmp_path / "mt.tsv", corpora, queries), miracl, ModelError)
            assert text.startswith("local/opus-mt-en-de translates from en into de, not from ")

    def test_marian_whose_name_says_it(self, tmp_path: Path, spm: tuple[Path, list[str]], miracl: Topics) -> None:
        folder = save_marian(tmp_path / "opus-mt-tc-big-fi-en", spm, None, None)
        assert done(request(folder, tmp_path / "mt.tsv", "fi", "en", limit=1), miracl).translated == 1
        assert "from fi into en, not from sw" in refusal(
            request(folder, tmp_path / "mt.tsv", "sw", "en"), miracl, ModelError
        )

    def test_marian_that_does_not_say_it(self, tmp_path: Path, spm: tuple[Path, list[str]], miracl: Topics) -> None:
        folder = save_marian(tmp_path / "mine", spm, None, None)
        text = refusal(request(folder, tmp_path / "mt.tsv", "en", "de"), miracl, ModelError)
        assert "write source_lang and target_lang into its tokenizer_config.json" in text

    def test_marian_for_many_targets(self, tmp_path: Path, spm: tuple[Path, list[str]], miracl: Topics) -> None:
        folder = save_marian(tmp_path / "opus-mt-gem-mul", spm, "gem", "mul", ["deu", "cmn_Hans", "swh", "fr"])
        outcome = done(request(folder, tmp_path / "mt.tsv", "en", "de zh fr sw", limit=2), miracl)
        assert outcome.translated == 8
        assert len({json.dumps(by_id) for by_id in texts_of(outcome.out).values()}) == 4
        assert set(TOLD) == {"local/opus-mt-gem-mul does not say whether it reads English: it translates from gem"}
        text = refusal(request(folder, tmp_path / "mt.tsv", "en", "de fi"), miracl, ModelError)
        assert "translates from gem into one of 4 languages, not from en into fi" in text


# -- loading -------------------------------------------------------------------------------------------------------


class TestLoading:
    def test_from_the_cache_of_the_hub(
        self, tmp_path: Path, nllb: Path, miracl: Topics, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import constants

        first, second = "1" * 40, "2" * 40
        repository = tmp_path / "hub" / "models--made-up--nllb"
        shutil.copytree(nllb, repository / "snapshots" / first)
        other = Path(shutil.copytree(nllb, repository / "snapshots" / second))
        model = M2M100ForConditionalGeneration.from_pretrained(other)
        with torch.no_grad():
            model.model.shared.weight.neg_()
        model.save_pretrained(other)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(first)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

        def found(model: str | Path, name: str, **options: Any) -> tuple[str, Any, Any]:
            outcome = done(request(model, tmp_path / name, "en", "de", limit=2, **options), miracl)
            return outcome.source, provenance(outcome.out)["identity"]["revision"], texts_of(outcome.out)

        assert found("made-up/nllb", "a.tsv") == ("made-up/nllb", first, found(nllb, "b.tsv")[2])
        pinned = found("made-up/nllb", "c.tsv", revision=second)
        assert pinned == ("made-up/nllb", second, found(other, "d.tsv")[2])
        assert pinned[2] != found(nllb, "b.tsv")[2]
        asked = request("made-up/nllb", tmp_path / "a.tsv", "en", "de", revision=second)
        assert f'revision "{first}" (now "{second}")' in refusal(asked, miracl, RequestError)

    def test_not_there_and_no_network(self, tmp_path: Path, miracl: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        text = refusal(request("made-up/nllb", tmp_path / "mt.tsv"), miracl, ModelError)
        assert text.startswith("cannot load made-up/nllb: ")
        assert "give the folder of a saved model" in text
        assert not (tmp_path / "mt.tsv").exists()

    @pytest.mark.parametrize("name", ["./no-such-folder", "no-such-folder", "/no/such/folder"])
    def test_no_such_folder(self, tmp_path: Path, miracl: Topics, name: str) -> None:
        text = refusal(request(name, tmp_path / "mt.tsv"), miracl, RequestError)
        assert text.startswith(f"no model '{name}': there is no such folder")

    def test_an_empty_folder(self, tmp_path: Path, miracl: Topics) -> None:
        (tmp_path / "empty").mkdir()
        assert "config.json is not in it" in refusal(
            request(tmp_path / "empty", tmp_path / "mt.tsv"), miracl, ModelError
        )

    def test_an_encoder(self, tmp_path: Path, miracl: Topics) -> None:
        sizes: dict[str, Any] = {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "intermediate_size": 8,
        }
        BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path / "bert")
        text = refusal(request(tmp_path / "bert", tmp_path / "mt.tsv"), miracl, ModelError)
        assert text.startswith("local/bert is no translation model of the kind that is supported (a bert")

    def test_weights_without_a_decoder(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        from safetensors.torch import load_file, save_file

        folder = Path(shutil.copytree(nllb, tmp_path / "half"))
        weights = load_file(folder / "model.safetensors")
        half = {name: weight for name, weight in weights.items() if ".decoder." not in name}
        save_file(half, folder / "model.safetensors", {"format": "pt"})
        text = refusal(request(folder, tmp_path / "mt.tsv"), miracl, ModelError)
        assert text.startswith("local/half is no translation model: it lacks the weights of model.decoder.layers.0.")

    def test_damaged_weights(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        folder = Path(shutil.copytree(nllb, tmp_path / "damaged"))
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        text = refusal(request(folder, tmp_path / "mt.tsv"), miracl, ModelError)
        assert text.startswith("cannot load local/damaged: ")

    def test_without_sentencepiece(self, tmp_path: Path) -> None:
        """In a process in which the package cannot be imported, whether or not it is installed."""
        folder = tmp_path / "opus-mt-en-de"
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "marian", "vocab_size": 60000}')
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
        for name in ("source.spm", "target.spm", "vocab.json"):
            (folder / name).write_text("{}")
        program = f"""
import sys
sys.modules["sentencepiece"] = None
from pathlib import Path
from hybrid_bench.errors import ModelError
from hybrid_bench.exchange.translator import TranslateRequest, translate
try:
    asked = TranslateRequest(Path({str(tmp_path / "mt.tsv")!r}), ("en",), ("de",), {str(folder)!r})
    translate(asked, lambda _: {{}}, print)
except ModelError as error:
    print(error)
"""
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert result.stdout.strip() == (
            "cannot load local/opus-mt-en-de: its tokenizer needs sentencepiece, which is not installed: pip"
            " install 'protobuf>=4' 'sentencepiece>=0.2'"
        ), result.stderr


# -- requests ------------------------------------------------------------------------------------------------------


class TestRequests:
    @pytest.mark.parametrize(
        ("options", "clause"),
        [
            ({"out": Path("mt.csv")}, r"a \.tsv or \.jsonl file, not to mt\.csv"),
            ({"out": Path("mt.tsv.gz")}, "compress it when it is complete"),
            ({"corpus_languages": ("xx",)}, "unknown language 'xx'"),
            ({"query_languages": ("German",)}, "'de'"),
            ({"query_languages": ("en",)}, "nothing to translate from en into en"),
            ({"query_languages": ()}, "nothing to translate from en into no language"),
            ({"batch_size": 0}, "batch_size 0 must be at least 1"),
            ({"num_beams": -1}, "num_beams -1"),
            ({"max_length": 0}, "max_length 0"),
            ({"limit": 0}, "limit 0"),
            ({"dtype": "fp16"}, "unknown dtype 'fp16': known: bfloat16, float16, float32"),
            ({"source": " x"}, "without white space around it"),
            ({"source": "a\tb"}, "tabs"),
            ({"source": ""}, "must not be empty"),
            ({"model": ".", "revision": "main"}, "a folder has no revision, but 'main'"),
        ],
    )
    def test_refused(self, options: dict[str, Any], clause: str) -> None:
        good: dict[str, Any] = {"out": Path("mt.tsv"), "corpus_languages": ("en",), "query_languages": ("de",)}
        with pytest.raises(RequestError, match=clause):
            TranslateRequest(**good | options)

    def test_directions_leave_out_a_language_into_itself_and_repeats(self) -> None:
        asked = TranslateRequest(Path("mt.tsv"), ("en", "de", "en"), ("de", "en", "fr"))
        assert asked.directions == (("en", "de"), ("en", "fr"), ("de", "en"), ("de", "fr"))

    @pytest.mark.parametrize("device", ["gpu", "cuda:99"])
    def test_a_device_that_is_not_there(self, tmp_path: Path, nllb: Path, miracl: Topics, device: str) -> None:
        text = refusal(request(nllb, tmp_path / "mt.tsv", device=device), miracl, RequestError)
        assert text.startswith(f"device '{device}' cannot be used: ")

    def test_longer_than_the_model_reads(self, tmp_path: Path, nllb: Path, miracl: Topics) -> None:
        text = refusal(request(nllb, tmp_path / "mt.tsv", max_length=129), miracl, RequestError)
        assert text == "max_length 129: local/nllb-tiny reads at most 128 tokens"
