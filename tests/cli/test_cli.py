from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import voxloom
from voxloom import __version__
from voxloom.cli import app
from voxloom.engine.events import StageFinished, StageStarted, TaskFinished
from voxloom.engine.ledger import Record
from voxloom.engine.plan import Plan, Problem, StagePlan
from voxloom.engine.status import StageStatus, Status
from voxloom.errors import Cancelled, InputError, StageError, StoreError, VoxloomWarning

MiB = 2**20
GOOD = Record(stage="fit", key="run-1/0000", status="done", inputs="a")
TORN = Record(stage="ingest", key="run-2", status="quarantined", inputs="a", reason="x.nii.gz: ends early.")
BUG = Record(
    stage="fit",
    key="run-3/0001",
    status="failed",
    inputs="a",
    reason="ZeroDivisionError: division by zero",
    details={"traceback": "Traceback ...\n  in mixed\n"},
)


class Pipeline(ModuleType):
    """Stands for `voxloom.pipeline`: remembers its calls and answers what a test wants."""

    def __init__(self) -> None:
        super().__init__("voxloom.pipeline")
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def answer(self, name: str, first: Any, on_event: Any = None, **kwargs: Any) -> Any:
        self.calls.append((name, first, kwargs))
        answer = self.answers[name]
        return answer(on_event) if callable(answer) else answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in (
            "plan",
            "run",
            "status",
            "verify",
            "verify_sources",
            "repair",
            "export",
        ):
            raise AttributeError(name)
        return lambda first, **kwargs: self.answer(name, first, **kwargs)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake = Pipeline()
    monkeypatch.setitem(sys.modules, "voxloom.pipeline", fake)
    monkeypatch.setattr(voxloom, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    path = tmp_path / "analysis.json"
    text = {"data": {"bids_dir": str(tmp_path)}, "memory_budget": "256MiB"}
    path.write_text(json.dumps(text))
    return path


def invoke(*args: object) -> SimpleNamespace:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)


def ended(quarantined: tuple[Record, ...] = (), failed: tuple[Record, ...] = (), notes: tuple[str, ...] = ()) -> Any:
    """A run of one stage that ends so."""

    def run(on_event: Any) -> SimpleNamespace:
        records = [GOOD, *failed]
        on_event(StageStarted("fit", total=len(records), done=0))
        for record in records:
            on_event(TaskFinished("fit", record))
        on_event(StageFinished("fit", done=1, failed=len(failed), quarantined=0, seconds=61.0))
        return SimpleNamespace(
            quarantined=quarantined, failed=failed, warnings=notes, output=Path("maps"), store="study.zarr"
        )

    return run


def raising(error: BaseException) -> Any:
    def run(on_event: Any) -> None:
        raise error

    return run


HELP = """
import sys
from voxloom.cli import main
sys.argv = ["voxloom", "--help"]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"numpy", "pandas", "xarray", "zarr", "dask", "distributed", "scipy", "numba", "nibabel", "pydantic"}


def test_help_and_version_are_light() -> None:
    """Modules are counted, not seconds: with 310 of them the answer takes 0.25 s on an idle core."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    for name in ("demo", "init", "plan", "ingest", "run", "status", "verify", "export", "schema", "--version"):
        assert name in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & HEAVY
    assert 100 < len(loaded) < 450
    assert invoke("--version").out == f"voxloom {__version__}\n"


def test_run_says_how_far_it_is_and_where_the_maps_are(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["run"] = ended(notes=("run-1: onset after the end",))
    result = invoke("run", analysis)
    assert result.code == 0
    assert result.err.splitlines() == [
        "fit: 1 task",
        "fit: 1 done in 1:01 min",
        "note: run-1: onset after the end",
    ]
    assert result.out == "maps   maps\nstore  study.zarr\n"


def test_run_with_bad_inputs_names_each_once_and_ends_with_1(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["run"] = ended(quarantined=(TORN,), failed=(BUG,))
    result = invoke("run", analysis)
    assert result.code == 1
    assert result.err.count("failed: fit run-3/0001: ZeroDivisionError") == 1
    assert result.err.count("quarantined: ingest run-2: x.nii.gz: ends early.") == 1
    assert "1 failed, 1 quarantined; what was done is kept" in result.err
    assert "in mixed" not in result.err
    assert "in mixed" in invoke("run", analysis, "-v").err


def test_quiet_run_shows_errors_only(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["run"] = ended(notes=("something",))
    assert invoke("run", analysis, "--quiet") == SimpleNamespace(code=0, out="", err="")
    pipeline.answers["run"] = ended(failed=(BUG,))
    result = invoke("run", analysis, "--quiet")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[0] == "failed: fit run-3/0001: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("a.nii", "is 3-D.", "Give a 4-D image."), 2, "error: a.nii: is 3-D. Give a 4-D image."),
        (StoreError("s.zarr", "in use by someone."), 2, "error: s.zarr: in use by someone."),
        (StageError("fit: no space left"), 1, "error: fit: no space left"),
        (Cancelled("stopped"), 130, "stopped; run the same command again to go on"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to go on"),
    ],
)
def test_errors_are_one_message_and_a_code(
    pipeline: Pipeline, analysis: Path, error: BaseException, code: int, text: str
) -> None:
    pipeline.answers["run"] = raising(error)
    result = invoke("run", analysis)
    assert (result.code, result.out, result.err) == (code, "", text + "\n")
    assert ("Traceback" in invoke("run", analysis, "-v").err) == (code < 130)


def test_a_bug_is_not_dressed_up(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["run"] = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        invoke("run", analysis)


def test_warnings_become_notes_without_source_lines(pipeline: Pipeline, analysis: Path) -> None:
    def run(on_event: Any) -> Any:
        for _ in range(2):
            warnings.warn("the mask was computed", VoxloomWarning, stacklevel=1)
        return ended()(on_event)

    pipeline.answers["run"] = run
    assert invoke("run", analysis).err.splitlines()[0] == "note: the mask was computed"
    assert invoke("run", analysis).err.count("mask") == 1


def test_options_replace_what_the_file_says(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["run"] = ended()
    invoke("run", analysis)
    invoke("run", analysis, "--cluster", "tcp://head:8786", "--workers", 3, "--memory-budget", "1GiB")
    asis, changed = (call[1] for call in pipeline.calls)
    assert (asis.cluster, asis.workers, asis.memory_budget) == ("local", None, 256 * MiB)
    assert (changed.cluster, changed.workers, changed.memory_budget) == ("tcp://head:8786", 3, 1024 * MiB)
    assert changed.store == asis.store
    assert changed.output == asis.output
    assert changed.digest() == asis.digest()


@pytest.mark.parametrize(
    "args",
    [
        ("--memory-budget", "much"),
        ("--workers", "0"),
        ("--cluster", "slrum"),
        ("--no-such-option",),
    ],
)
def test_wrong_arguments_end_with_2(pipeline: Pipeline, analysis: Path, args: tuple[str, ...]) -> None:
    result = invoke("run", analysis, *args)
    assert result.code == 2
    assert result.err
    assert "Traceback" not in result.err
    assert pipeline.calls == []


def test_wrong_file_ends_with_2(pipeline: Pipeline, analysis: Path, tmp_path: Path) -> None:
    for command in ("plan", "run", "status", "export"):
        result = invoke(command, tmp_path / "nothing.yaml")
        assert result.code == 2
        assert "nothing.yaml" in result.err
    analysis.write_text('{"data": {"bids_dirr": "x"}}')
    result = invoke("run", analysis)
    assert result.code == 2
    assert "bids_dirr" in result.err


def test_plan_is_shown_and_judged(pipeline: Pipeline, analysis: Path) -> None:
    stages = (StagePlan(name="fit", n_tasks=3, peak_memory=300 * MiB),)
    warning = Problem(level="warning", where="sub-01", what="late onset.")
    error = Problem(level="error", where="sub-02", what="no events.")
    pipeline.answers["plan"] = Plan(stages=stages, problems=(warning,))
    over = invoke("plan", analysis)
    assert over.code == 2
    assert "a task needs 300 MiB, but memory_budget is 256 MiB" in over.err
    fits = invoke("plan", analysis, "--memory-budget", "320MiB")
    assert (fits.code, fits.err) == (0, "")
    assert "warning: sub-01: late onset." in fits.out
    pipeline.answers["plan"] = Plan(stages=stages, problems=(error,))
    assert invoke("plan", analysis, "--memory-budget", "320MiB").code == 1


def test_status_shows_stages_and_reasons(pipeline: Pipeline, analysis: Path) -> None:
    stage = StageStatus(name="ingest", total=2, done=1, quarantined=(TORN,))
    pipeline.answers["status"] = Status(stages=(stage,))
    result = invoke("status", analysis)
    assert result.code == 0
    assert "ingest  1 of 2 done" in result.out
    assert "x.nii.gz: ends early." in result.out


def test_verify_takes_a_store_or_an_analysis(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["verify"] = []
    assert invoke("verify", "s3://bucket/study.zarr", "--workers=2").out == "s3://bucket/study.zarr: sound\n"
    assert pipeline.calls[0][2] == {"workers": 2}
    assert invoke("verify", analysis).code == 0
    given = [call[1] for call in pipeline.calls]
    assert given[0] == "s3://bucket/study.zarr"
    assert str(given[1].store.path) == str(analysis.with_suffix(".zarr"))
    pipeline.answers["verify"] = ["runs/a/bold/c/0/0: checksum does not match"]
    bad = invoke("verify", analysis, "--quiet")
    assert (bad.code, bad.out) == (1, "runs/a/bold/c/0/0: checksum does not match\n")
    assert f"voxloom verify {analysis} --repair" in bad.err


def test_verify_repairs_then_compares_with_the_sources(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers |= {"repair": [], "verify_sources": []}
    assert invoke("verify", analysis, "--repair", "--against-source").code == 0
    assert [call[0] for call in pipeline.calls] == ["repair", "verify_sources"]
    pipeline.answers["verify_sources"] = ["runs/a: its source is gone"]
    bad = invoke("verify", analysis, "--repair", "--against-source")
    assert (bad.code, bad.out) == (1, "runs/a: its source is gone\n")
    for option in ("--repair", "--against-source", "--cluster=local"):
        assert invoke("verify", "s3://bucket/study.zarr", option).code == 2


def test_export_can_go_elsewhere(pipeline: Pipeline, analysis: Path) -> None:
    pipeline.answers["export"] = ended()
    assert invoke("export", analysis, "--output", "there").code == 0
    assert pipeline.calls[0][2] == {"output": Path("there")}


def test_init_hands_over_folders_and_says_what_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def write_starter(*args: Any, **kwargs: Any) -> Path:
        calls.append((args, kwargs))
        return Path(args[2])

    monkeypatch.setattr("voxloom.io.bids.starter.write_starter", write_starter)
    assert invoke("init", "bids").out == "wrote analysis.yaml\nnext: voxloom plan analysis.yaml\n"
    invoke("init", "bids", "--derivatives", "a", "--derivatives", "b", "--output", "x.yaml", "--force")
    invoke("init", "bids", "a", "b")
    assert calls == [
        ((Path("bids"), None, Path("analysis.yaml")), {"force": False}),
        ((Path("bids"), [Path("a"), Path("b")], Path("x.yaml")), {"force": True}),
        ((Path("bids"), [Path("a"), Path("b")], Path("analysis.yaml")), {"force": False}),
    ]


def test_schema_is_json() -> None:
    schema = json.loads(invoke("schema").out)
    assert "memory_budget" in schema["properties"]
