"""The task files: one collection each, and what mteb needs to know of its two tasks.

The files live in ``tasks/`` at the top of the repository, where they can be given to mteb almost unchanged. A wheel
carries them inside this package; in a checkout this package looks there. `hybrid_bench.evaluation.registry` finds them.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[1] / "tasks"
if not (_HERE / "xquad_r.py").exists() and _CHECKOUT.is_dir():
    __path__.append(str(_CHECKOUT))

# Before any of the files: as mteb comes, our tasks are registered with it, for which none of them may be half imported.
import mteb  # noqa: E402, F401 # behind the path, by which they are found
