"""The form of a collection: columns of strings, ids and their order, judgments, clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_bench.data.collection import (
    Collection,
    Column,
    DataOptions,
    Judgments,
    PassagePool,
    Passages,
    PassageText,
    Queries,
    Strings,
    clusters,
    take,
    text_id,
)
from hybrid_bench.errors import RequestError
from reference import IDS_BY_BYTES

# -- columns ------------------------------------------------------------------------------------------------------

TYPES = [pa.string(), pa.large_string()]
#: Chunks of every kind: empty ones in front, in the middle, twice in a row and at the end; of one; of nulls.
CHUNKS: list[list[str | None]] = [
    [],
    ["a", None, "中文", ""],
    [],
    [],
    ["ß"],
    [None],
    ["a", "🐟 fish", "b" * 50],
    [],
]
#: What they read as.
TEXTS = [text or "" for chunk in CHUNKS for text in chunk]


def column(chunks: Sequence[Sequence[str | None]] = CHUNKS, kind: pa.DataType = TYPES[0]) -> Column:
    return Column(pa.chunked_array([pa.array(chunk, kind) for chunk in chunks], kind))


@pytest.mark.parametrize("kind", TYPES, ids=str)
class TestColumn:
    def test_length_and_iteration(self, kind: pa.DataType) -> None:
        assert len(column(kind=kind)) == len(TEXTS)
        assert list(column(kind=kind)) == TEXTS
        assert tuple(column(kind=kind)) == tuple(TEXTS)
        assert list(reversed(column(kind=kind))) == TEXTS[::-1]

    def test_iteration_is_over_all_of_a_long_one(self, kind: pa.DataType) -> None:
        texts = [f"text {number}" for number in range(25_000)]
        assert list(column([texts[:3], [], texts[3:24_000], texts[24_000:]], kind)) == texts

    def test_one_by_its_place(self, kind: pa.DataType) -> None:
        strings = column(kind=kind)
        assert [strings[place] for place in range(len(TEXTS))] == TEXTS
        assert [strings[place - len(TEXTS)] for place in range(len(TEXTS))] == TEXTS
        for place in (len(TEXTS), -len(TEXTS) - 1):
            with pytest.raises(IndexError):
                strings[place]

    @pytest.mark.parametrize("step", [None, 1, 2, 5, 100, -1, -3])
    def test_slices_are_those_of_a_list(self, kind: pa.DataType, step: int | None) -> None:
        strings = column(kind=kind)
        bounds = [None, *range(-len(TEXTS) - 2, len(TEXTS) + 3)]
        for start in bounds:
            for stop in bounds:
                chosen = slice(start, stop, step)
                assert strings[chosen] == TEXTS[chosen], chosen

    def test_take(self, kind: pa.DataType) -> None:
        strings = column(kind=kind)
        rng = np.random.default_rng(0)
        for rows in (
            np.arange(len(TEXTS)),
            np.arange(len(TEXTS))[::-1],
            rng.permutation(len(TEXTS)),
            rng.integers(0, len(TEXTS), size=100),  # with repetitions
            np.array([5, 5, 0, 5]),
            np.array([len(TEXTS) - 1]),
            np.array([], dtype=np.int64),
        ):
            expected = [TEXTS[row] for row in rows.tolist()]
            assert strings.take(rows) == expected
            assert take(strings, rows) == expected
            assert all(type(text) is str for text in strings.take(rows))

    @pytest.mark.parametrize("row", [len(TEXTS), -len(TEXTS) - 1])
    def test_take_of_a_row_that_is_not_there(self, kind: pa.DataType, row: int) -> None:
        with pytest.raises(IndexError):
            column(kind=kind).take(np.array([0, row, 2]))

    def test_find(self, kind: pa.DataType) -> None:
        strings = column(kind=kind)
        # "a" stands there twice: the first counts. What is asked twice is found once.
        assert strings.find(["b" * 50, "a", "ß", "not there", "a", "🐟 fish"]) == {
            "a": 0,
            "ß": 4,
            "🐟 fish": 7,
            "b" * 50: 8,
        }
        assert strings.find(iter(["中文"])) == {"中文": 2}
        assert strings.find([]) == {}
        assert strings.find({"A", "ss", "a "}) == {}

    def test_of_nothing(self, kind: pa.DataType) -> None:
        for strings in (column([], kind), column([[]], kind), column([[], []], kind)):
            assert len(strings) == 0
            assert list(strings) == strings[:] == strings[::-1] == []
            assert strings.take(np.array([], dtype=np.int64)) == []
            assert strings.find(["a"]) == {}
            with pytest.raises(IndexError):
                strings[0]

    def test_of_slices_of_chunks(self, kind: pa.DataType) -> None:
        """Chunks that do not begin where their memory does, as a data set gives them that was cut."""
        whole = pa.chunked_array([pa.array(chunk, kind) for chunk in CHUNKS], kind)
        strings = Column(whole.slice(2, 5))
        assert list(strings) == strings[:] == TEXTS[2:7]
        assert strings.take(np.array([4, 0])) == [TEXTS[6], TEXTS[2]]
        assert strings.find(["a", "ß"]) == {"ß": 2, "a": 4}

    def test_of_a_mapped_file(self, kind: pa.DataType, tmp_path: Path) -> None:
        with (
            pa.OSFile(str(tmp_path / "texts.arrow"), "wb") as file,
            pa.ipc.new_file(file, pa.schema([("", kind)])) as to,
        ):
            for chunk in CHUNKS:
                to.write_batch(pa.record_batch([pa.array(chunk, kind)], names=[""]))
        before = pa.total_allocated_bytes()
        strings = Column(pa.ipc.open_file(pa.memory_map(str(tmp_path / "texts.arrow"))).read_all().column(0))
        assert pa.total_allocated_bytes() <= before  # nothing is copied
        assert list(strings) == TEXTS
        assert strings.take(np.array([7, 2, 4])) == ["🐟 fish", "中文", "ß"]


_CHUNKS = st.lists(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=4), max_size=5), max_size=6)


@given(_CHUNKS, st.data())
def test_a_column_is_the_list_of_its_strings(chunks: list[list[str | None]], data: st.DataObject) -> None:
    strings = column(chunks, data.draw(st.sampled_from(TYPES)))
    texts = [text or "" for chunk in chunks for text in chunk]
    assert list(strings) == texts
    chosen = data.draw(st.slices(len(texts)))
    assert strings[chosen] == texts[chosen]
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=12)) if texts else []
    assert strings.take(np.array(rows, dtype=np.int64)) == [texts[row] for row in rows]
    wanted = data.draw(st.lists(st.sampled_from([*filter(None, texts), "not there"]), max_size=5))
    assert strings.find(wanted) == {text: texts.index(text) for text in wanted if text in texts}


def test_take_of_a_tuple() -> None:
    assert take(("a", "b", "c"), np.array([2, 0, 2])) == ["c", "a", "c"]
    assert take(("a", "b", "c"), np.array([], dtype=np.int64)) == []
    with pytest.raises(IndexError):
        take(("a", "b", "c"), np.array([3]))


# -- collections --------------------------------------------------------------------------------------------------


def collection(ids: Mapping[str, Strings], languages: Mapping[str, str] | None = None) -> Collection:
    """A collection without queries."""
    return Collection(
        name="Ids",
        passages={
            part: Passages((languages or {}).get(part, part), of_part, ("a text",) * len(of_part))
            for part, of_part in ids.items()
        },
        queries={},
        paragraph_cluster={},
        article_cluster={},
        revision="1",
        sha256=dict.fromkeys(ids, "0"),
    )


def test_parts_and_languages() -> None:
    made = collection({"test/ru": ("1",), "dev/ru": ("2", "3"), "de": ()}, {"test/ru": "ru", "dev/ru": "ru"})
    assert made.parts == ("test/ru", "dev/ru", "de")
    assert made.languages == ("ru", "ru", "de")
    assert [made.part_index(part) for part in made.parts] == [0, 1, 2]
    assert [len(made.passages[part]) for part in made.parts] == [1, 2, 0]


def test_a_part_that_is_not_there() -> None:
    made = collection({"test/ru": ("1",), "de": ("2",)})
    with pytest.raises(RequestError, match=r"^Ids has no 'test/rus': did you mean 'test/ru'"):
        made.part_index("test/rus")


def as_column(ids: Sequence[str]) -> Column:
    half = len(ids) // 2
    return column([ids[:half], [], ids[half:]], pa.large_string())


class TestIdRanks:
    @pytest.mark.parametrize("kind", [tuple, list, as_column])
    def test_are_the_places_in_the_order_of_bytes_over_the_parts(
        self, kind: Callable[[Sequence[str]], Strings]
    ) -> None:
        shuffled = np.random.default_rng(1).permutation(len(IDS_BY_BYTES)).tolist()
        places = {"de": shuffled[:5], "empty": [], "ar": shuffled[5:6], "en": shuffled[6:]}
        made = collection({part: kind([IDS_BY_BYTES[place] for place in chosen]) for part, chosen in places.items()})
        ranks = made.id_ranks(made.parts)
        assert ranks.dtype == np.int32
        assert ranks.tolist() == shuffled
        # Among some of the parts only, side by side as they are given.
        for parts in (("de",), ("en", "de"), ("de", "en"), ("ar", "empty"), ("empty",)):
            mine = [place for part in parts for place in places[part]]
            assert made.id_ranks(parts).tolist() == [sorted(mine).index(place) for place in mine]

    def test_are_made_once(self) -> None:
        made = collection({"de": ("b", "a"), "en": ("c",)})
        assert made.id_ranks(["de", "en"]) is made.id_ranks(("de", "en"))
        assert made.id_ranks(("de", "en")) is not made.id_ranks(("en", "de"))

    @given(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=3), unique=True, max_size=20),
        st.lists(st.integers(0, 20), max_size=3),
    )
    def test_order_ids_as_trec_eval_does(self, ids: list[str], cuts: list[int]) -> None:
        edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
        made = collection({f"part {n}": tuple(ids[a:b]) for n, (a, b) in enumerate(pairwise(edges))})
        expected = {encoded: place for place, encoded in enumerate(sorted(i.encode() for i in ids))}
        assert made.id_ranks(made.parts).tolist() == [expected[i.encode()] for i in ids]


def test_judgments() -> None:
    made = Judgments.of(iter([(0, 1, 7, 1), (0, 0, -1, 3), (4, 1, 2, 2)]))
    assert len(made) == 3
    columns = (made.query, made.part, made.passage, made.gain)
    assert [values.tolist() for values in columns] == [[0, 0, 4], [1, 0, 1], [7, -1, 2], [1, 3, 2]]
    assert [values.dtype for values in columns] == [np.int32, np.int16, np.int32, np.int32]
    nothing = Judgments.of([])
    assert len(nothing) == 0
    assert [values.dtype for values in (nothing.query, nothing.part, nothing.passage, nothing.gain)] == [
        values.dtype for values in columns
    ]


def test_queries_are_as_many_as_their_ids() -> None:
    queries = Queries("de", ("a", "b"), ("1", "2"), ("Wer?", "Wo?"), Judgments.of([]))
    assert len(queries) == 2
    assert queries.excluded is None


def test_by_default_the_data_are_as_published() -> None:
    assert DataOptions() == DataOptions(None, PassageText.SENTENCE, PassagePool.FULL, None)


# -- ids and clusters ---------------------------------------------------------------------------------------------


def test_text_id() -> None:
    # printf 'XQuAD-R\tde\t0-0' | sha256sum | cut -c1-8
    assert text_id("XQuAD-R", "de", "0-0") == "beeec1c7.de.0-0"
    names = {text_id(*parts) for parts in [("A", "de", "1"), ("B", "de", "1"), ("A", "en", "1"), ("A", "de", "2")]}
    assert len({name[:8] for name in names}) == 4


def components(groups: list[list[str]]) -> set[frozenset[str]]:
    """Connected components by definition: the closure of sharing a group, merged until nothing changes."""
    found = {frozenset([item]) for group in groups for item in group}
    for group in groups:
        touched = {component for component in found if component & set(group)}
        found = found - touched | ({frozenset().union(*touched)} if touched else set())
    return found


@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), max_size=4), max_size=10))
def test_clusters_are_connected_components(groups: list[list[str]]) -> None:
    numbers = clusters(groups)
    assert list(numbers) == list(dict.fromkeys(item for group in groups for item in group))
    # numbered from 0, in order of appearance
    assert list(dict.fromkeys(numbers.values())) == list(range(len(set(numbers.values()))))
    together = {frozenset(item for item in numbers if numbers[item] == number) for number in set(numbers.values())}
    assert together == components(groups)


def test_clusters_of_a_long_chain() -> None:
    n = 3000
    chain = [[f"{number}", f"{number + 1}"] for number in range(n)]
    assert set(clusters(chain).values()) == {0}
    assert set(clusters(reversed(chain)).values()) == {0}


def test_texts_with_outer_white_space_are_counted_as_models_are_given_them() -> None:
    """Queries as they are, passages with their titles before them."""
    passages = {
        "de": Passages("de", ("a", "b", "c"), (" eins", "zwei", "drei\n"), ("", "Titel", "Titel")),
        "en": Passages("en", ("d", "e"), ("one", "two\u3000")),
    }
    nothing = Judgments.of([])
    queries = {"de": Queries("de", ("q", "r"), ("q", "r"), ("wer ", "was"), nothing)}
    collection = Collection("test", passages, queries, {}, {}, "1", {})
    assert collection.padded(["de"], ["de", "en"]) == {"queries": 1, "passages": 3}
    assert collection.padded([], ["en"]) == {"queries": 0, "passages": 1}
