"""What a model says of its own training: the file that `train` leaves in its folder, read by whatever reports on it.

Reports separate languages that a model was trained on from those that it has never seen. They take this from the
model, not from what somebody remembers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_bench.data.files import atomic
from hybrid_bench.data.parsing import read_json
from hybrid_bench.errors import DataError, reason

__all__ = ["RECORD", "read_record", "training_languages", "write_record"]

#: Name of the file in a model's folder.
RECORD = "hybrid_training.json"

#: Changes when a field changes its meaning.
_FORMAT = 1


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write how a model was trained into its folder; the same training writes the same bytes.

    Args:
        folder: Where the model is saved.
        record: At least ``languages``, the codes of the languages trained on.
    """
    text = json.dumps({"format": _FORMAT, **record}, ensure_ascii=False, indent=1) + "\n"
    with atomic(folder / RECORD) as beside:
        beside.write_text(text, encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any] | None:
    """How the model in a folder was trained; None if its folder does not say.

    Raises:
        DataError: If the file is there and damaged, or of another version.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = read_json(path, nan=True)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({reason(error)}): copy it again from where it was trained") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise DataError(f"{path} was not written by this version of hybrid_bench: train the model again")
    languages = record.get("languages")
    if not isinstance(languages, list) or not all(isinstance(code, str) for code in languages):
        raise DataError(f"{path} does not list the languages of the training: train the model again")
    return record


def training_languages(folder: Path) -> tuple[str, ...] | None:
    """Codes of the languages that the model in a folder was trained on by `train`, sorted; None if it does not say.

    Languages that its pre-training may have seen are not among them.

    Raises:
        DataError: See `read_record`.
    """
    record = read_record(folder)
    return None if record is None else tuple(sorted(record["languages"]))
