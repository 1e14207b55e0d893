"""`Metadata`: what a task file says about its task.

mteb's own fields, validated by mteb, and two that mteb has no field for. The descriptive statistics are those that lie
beside the task files, where mteb would look into its own package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mteb.abstasks.task_metadata import TaskMetadata

__all__ = ["KnownIssue", "Metadata"]

#: What mteb's quality test may find in a retrieval task over texts; it is told there for each task that has it.
KnownIssue = Literal["short_text", "duplicate_text", "relevant_docs_exceed_corpus", "zero_relevant_docs"]

_PACKAGE = Path(__file__).parents[1]


class Metadata(TaskMetadata):
    """mteb's metadata of a task of this package.

    Attributes:
        known_issues: What mteb's quality test finds in the data, and why it is as published: see the description.
        redistributable: Whether the data may be passed on, for example as a data set on the Hub.
    """

    known_issues: tuple[KnownIssue, ...] = ()
    redistributable: bool = True

    @property
    def descriptive_stat_path(self) -> Path:
        """Where mteb reads and writes the descriptive statistics: with the task files, in a wheel as in a checkout."""
        packaged = _PACKAGE / "tasks" / "descriptive_stats"
        folder = packaged if packaged.is_dir() else _PACKAGE.parent / "tasks" / "descriptive_stats"
        return folder / f"{self.name}.json"
