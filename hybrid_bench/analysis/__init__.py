"""Analysis: from saved runs to values, intervals and tests."""
