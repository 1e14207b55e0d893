"""The normal form in which texts of two data sets are compared letter by letter."""

from __future__ import annotations

import unicodedata

import regex

__all__ = ["normal_form"]

_NO_LETTERS = regex.compile(r"[\p{P}\p{Z}\p{C}]+")


def normal_form(text: str) -> str:
    """A text as it is compared: NFKC, case-folded, without punctuation, space and control characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _NO_LETTERS.sub("", folded)
