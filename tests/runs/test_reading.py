"""Saved runs: where they are found, what they are called, and what is said of one that cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import static_model
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.runs.reading import Run, find_run, find_runs, names_of, run_folder
from hybrid_bench.runs.result_files import FORMAT, table_path
from saved_runs import BM25, CHAR_NGRAM, change_signature, copy_of, folder_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"))


# -- where they are -----------------------------------------------------------------------------------------------


def test_a_run_is_found_from_every_level(output: Path) -> None:
    folders = [folder_of(output, BM25), folder_of(output, CHAR_NGRAM)]
    for paths in ([output], [output / "results"], folders, [output, *folders]):
        assert [run.folder for run in find_runs(paths)] == folders
    assert [run.label for run in find_runs(folders[::-1])] == [CHAR_NGRAM, BM25]
    assert sorted(find_runs([folders[0]])[0].tasks) == [MULTILINGUAL, PAIRS]


def test_a_run_is_found_by_its_model(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the model's name, among the folders that are named with it and where `run` saves by itself."""
    monkeypatch.chdir(tmp_path)  # which has no runs
    copy = copy_of(output, tmp_path)
    save_runs(copy, [BM25], [PAIRS], ["de"], settings=["mono"], passage="sentence+context")
    plain, label = folder_of(copy, BM25), f"{BM25} (passage=sentence+context)"
    (with_options,) = (run.folder for run in find_runs([copy]) if run.label == label)
    for name, folder in ((BM25, plain), (label, with_options), (plain, plain), (plain.parent, plain)):
        assert find_runs([copy / "results" / "hybrid_bench__char-ngram", copy, name])[0].model == CHAR_NGRAM
        if name != plain.parent:  # which holds both
            assert find_run(name, [copy]).folder == folder
    assert [run.label for run in find_runs([plain.parent])] == [BM25, label]
    with pytest.raises(RequestError, match=f"{plain.parent} holds 2 runs: name the folder of one, {plain} or "):
        find_run(plain.parent)
    assert run_folder(tmp_path) == tmp_path  # whoever asks for it looks into it
    assert run_folder(CHAR_NGRAM, [copy]) == folder_of(copy, CHAR_NGRAM)
    with pytest.raises(RequestError, match="no run of a model of this name in runs: give the --output of"):
        find_runs([BM25])
    default = copy.rename(tmp_path / "runs")
    assert [run.folder for run in find_runs([BM25])] == [Path("runs") / plain.relative_to(copy)]
    # Where `run` saves by itself counts only if the named folders have none.
    assert find_run(BM25, [copy_of(output, tmp_path)]).folder == plain
    assert find_run(BM25, [folder_of(output, CHAR_NGRAM)]).folder.is_relative_to("runs")
    assert default.is_dir()


def test_a_run_is_found_by_the_folder_of_its_model(tmp_path: Path) -> None:
    model = tmp_path / "checkpoint"
    static_model(["one text", "another text"]).save(str(model))
    with pytest.raises(RequestError) as caught:
        find_runs([model])
    told = "is the folder of a model, and there is no run of it in runs: `hybrid-bench run --models"
    assert str(caught.value) == f"{model} {told} {model}` makes one"
    output = save_runs(tmp_path / "out", [str(model)], ["HybridDemo-Pairs"], ["de"], settings=["mono"])
    assert find_run(model, [output]).model == "local/checkpoint"
    assert [run.model for run in find_runs([output, model])] == ["local/checkpoint"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hybrid_bench/bm52", f"did you mean '{BM25}'?"),
        ("char-ngram", f"did you mean '{CHAR_NGRAM}'?"),
        ("no such model", "give the --output of `hybrid-bench run`"),
    ],
)
def test_an_unknown_run_is_told_as_what_it_is(name: str, told: str, output: Path) -> None:
    with pytest.raises(RequestError) as caught:
        find_run(name, [output])
    start = f"there is no folder {name}, and no run of a model of this name in {output} and runs: "
    assert str(caught.value) == f"{start}{told}"


def test_a_run_is_what_its_files_say(output: Path) -> None:
    folder = folder_of(output, BM25)
    (run,) = find_runs([folder])
    assert (run.model, run.revision, run.options) == (BM25, folder.name, {})
    table = run.tasks[PAIRS]
    assert (table.path, table.collection, table.parallel) == (table_path(folder, PAIRS), "HybridDemo", True)
    assert set(table.signature["data_sha256"]) == {"de", "en", "th"}


def test_a_folder_with_a_link_to_it_is_one_run(output: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder_of(output, BM25), target_is_directory=True)
    assert [run.label for run in find_runs([folder_of(output, BM25), link])] == [BM25]


def test_a_run_with_options_is_named_by_them(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    save_runs(copy, [BM25], [PAIRS], ["de"], settings=["mono"], passage="sentence+context")
    label = f"{BM25} (passage=sentence+context)"
    with_options, plain = find_runs([copy])[1], folder_of(copy, BM25)
    assert [run.label for run in find_runs([copy])] == [BM25, label, CHAR_NGRAM]
    assert [run.label for run in find_runs([with_options.folder])] == [label]
    assert [run.label for run in find_runs([plain])] == [BM25]  # the other lies below it
    assert with_options.folder.parent == plain / "experiments"
    assert with_options.revision == plain.name


def test_what_was_superseded_is_no_run(output: Path, tmp_path: Path) -> None:
    folder = folder_of(copy_of(output, tmp_path), BM25)
    aside = folder / "superseded" / "0123abcd"
    aside.mkdir(parents=True)
    for file in [file for file in folder.iterdir() if file.is_file()]:
        shutil.copy(file, aside)
    for path in (folder, folder.parents[1], folder.parents[2]):
        assert aside not in {run.folder for run in find_runs([path])}
    for file in folder.glob("HybridDemo-*"):
        file.unlink()
    with pytest.raises(RequestError, match="no run in"):
        find_runs([folder])
    assert [run.label for run in find_runs([aside])] == [BM25]  # unless asked for


def test_a_task_without_result_is_left_out(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    folder = folder_of(copy, BM25)
    (folder / f"{MULTILINGUAL}.json").unlink()  # as after a kill: the table is written first
    first, second = find_runs([copy])
    assert (list(first.tasks), len(second.tasks)) == ([PAIRS], 2)
    (folder / f"{PAIRS}.json").unlink()
    assert [run.label for run in find_runs([copy])] == [CHAR_NGRAM]
    with pytest.raises(RequestError) as caught:
        find_runs([folder])
    assert str(caught.value) == (
        f"no run in {folder}: `hybrid-bench run --output DIR` makes one, and ends those that were interrupted there"
    )


# -- what cannot be read ------------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_named(output: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a run")
    where = f"no run of a model of this name in {output} and runs: give the --output of `hybrid-bench run`"
    for path, told in (
        (tmp_path / "nowhere", f"there is no folder {tmp_path / 'nowhere'}, and {where}"),
        (file, f"{file} is a file: give the --output of `hybrid-bench run`, or the name of a model it ran"),
    ):
        with pytest.raises(RequestError) as caught:
            find_runs([output, path])  # one that is there does not hide it
        assert str(caught.value) == told


def test_a_folder_without_runs_is_named(output: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        find_runs([output, tmp_path])
    assert str(caught.value) == f"no run in {tmp_path}: `hybrid-bench run --output DIR` makes one"


def test_a_damaged_table_is_named(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    file = table_path(folder_of(copy, BM25), PAIRS)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError) as caught:
        find_runs([copy])
    message = str(caught.value)
    assert message.startswith(f"{file} is damaged (")
    assert message.endswith("): run the task again")
    assert "\n" not in message


@pytest.mark.parametrize("column", ["ap", "ranks.list.element", "question_id"])
def test_a_changed_byte_is_found_where_it_is_read(column: str, output: Path, tmp_path: Path) -> None:
    """Not every wrong bit makes a file unreadable: most would be other numbers."""
    copy = copy_of(output, tmp_path)
    file = table_path(folder_of(copy, BM25), PAIRS)
    group = pq.read_metadata(file).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content = bytearray(file.read_bytes())
    content[start + chunk.total_compressed_size // 2] ^= 1
    file.write_bytes(content)
    (run,) = [run for run in find_runs([copy]) if run.model == BM25]
    run.tasks[PAIRS].frame("rr")  # the other columns can still be read
    with pytest.raises(DataError, match="is damaged"):
        run.tasks[PAIRS].frame(column.partition(".")[0])


def test_a_table_of_another_program_is_named(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    file = table_path(folder_of(copy, BM25), PAIRS)
    pq.write_table(pa.table({"subset": ["de-de"]}), file)
    with pytest.raises(DataError) as caught:
        find_runs([copy])
    assert str(caught.value) == f"{file} was not written by hybrid_bench: run the task again"


@pytest.mark.parametrize("made", [FORMAT - 1, FORMAT + 1, None], ids=["earlier", "later", "none"])
def test_a_table_of_another_format_is_refused(made: int | None, output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    folder = folder_of(copy, CHAR_NGRAM)
    change_signature(
        folder,
        MULTILINGUAL,
        lambda signature: signature.pop("format") if made is None else signature.update(format=made),
    )
    with pytest.raises(DataError) as caught:
        find_runs([copy])
    file = table_path(folder, MULTILINGUAL)
    assert str(caught.value) == f"{file} was made by another version of hybrid_bench: run the task again"
    assert [run.label for run in find_runs([folder_of(copy, BM25)])] == [BM25]  # the others can still be read


# -- their names --------------------------------------------------------------------------------------------------


def named(*folders: str) -> list[str]:
    """Names of runs of one model in these folders; of another where the folder begins with it."""
    return names_of([Run(Path(folder), folder.partition("/")[0], {}, {}) for folder in folders])


def test_runs_of_one_name_are_told_apart_by_revision_then_by_folder() -> None:
    assert named("m/0123456789", "n/0123456789") == ["m", "n"]
    assert named("m/0123456789", "m/abcdef0123", "n/1") == ["m @0123456", "m @abcdef0", "n"]
    assert named("m/0123456789", "m/0123456abc", "m/1") == [  # alike in what is shown of them
        "m @0123456 in m/0123456789",
        "m @0123456 in m/0123456abc",
        "m @1",
    ]


def test_names_with_options_are_told_apart_too() -> None:
    folders = [Path("m") / revision / "experiments" / "x" for revision in ("aaaaaaaaa", "bbbbbbbbb")]
    runs = [Run(folder, "m", {"passage": "p", "pool": "q"}, {}) for folder in folders]
    assert names_of(runs[:1]) == ["m (passage=p, pool=q)"]
    assert names_of(runs) == ["m (passage=p, pool=q) @aaaaaaa", "m (passage=p, pool=q) @bbbbbbb"]


# -- their tables -------------------------------------------------------------------------------------------------


def test_a_frame_has_the_columns_asked_for_and_those_that_tell_rows_apart(output: Path) -> None:
    (run,) = find_runs([folder_of(output, BM25)])
    for columns in ((), ("ap",), ("question_id", "ap", "subset")):
        frame = run.tasks[PAIRS].frame(*columns)
        assert set(frame) == {"split", "subset", "setting", "pool_size", *columns}
        whole = pq.read_table(run.tasks[PAIRS].path, columns=list(frame)).to_pandas()
        pd.testing.assert_frame_equal(frame, whole[list(frame)])


def test_a_column_is_read_once(output: Path, tmp_path: Path) -> None:
    (run,) = find_runs([folder_of(copy_of(output, tmp_path), BM25)])
    table = run.tasks[PAIRS]
    before = table.frame("ap")
    content = table.path.read_bytes()
    table.path.write_bytes(content[: len(content) // 2])
    pd.testing.assert_frame_equal(table.frame("ap"), before)
    with pytest.raises(DataError) as caught:
        table.frame("ranks")
    assert str(caught.value).startswith(f"{table.path} is damaged (")
    table.path.unlink()
    with pytest.raises(DataError, match="is damaged"):
        table.frame("ranks")


def test_covered_are_the_subsets_and_pools_of_each_setting(output: Path) -> None:
    (run,) = find_runs([folder_of(output, BM25)])
    assert run.tasks[MULTILINGUAL].covered == {
        "multilingual": {("test/de", 1408), ("test/en", 1408), ("test/th", 1408)}
    }
    assert run.tasks[PAIRS].covered == {
        "monolingual": {(f"test/{code}-{code}", 128) for code in ("de", "en", "th")},
        "cross-lingual": {
            (f"test/{one}-{two}", 128) for one in ("de", "en", "th") for two in ("de", "en", "th") if one != two
        },
    }


def test_a_run_can_be_narrowed_to_some_subsets(output: Path) -> None:
    (run,) = find_runs([folder_of(output, BM25)])
    assert len(run.tasks[PAIRS].frame()) == 9 * 84  # read before, as a whole
    narrowed = run.only({PAIRS: ["de-de", "de-en", "no-no"], MULTILINGUAL: ["no"], "Other": ["de"]})
    assert list(narrowed.tasks) == [PAIRS]
    table = narrowed.tasks[PAIRS]
    assert table.covered == {"monolingual": {("test/de-de", 128)}, "cross-lingual": {("test/de-en", 128)}}
    frame = table.frame("ap")
    whole = run.tasks[PAIRS].frame("ap")
    pd.testing.assert_frame_equal(frame, whole[whole["subset"].isin(["de-de", "de-en"])])
    assert Setting.MONOLINGUAL.value in run.only({PAIRS: ["th-th"]}).tasks[PAIRS].covered
    assert run.only({}).tasks == {}
