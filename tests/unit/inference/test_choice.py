"""Which engine is taken, why, and that it has run before anybody waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import choice, standin
from dicomnode.inference import package as packages
from dicomnode.inference.choice import KINDS, Kind, open_engine
from dicomnode.inference.engine import Batch, Engine
from dicomnode.inference.package import Package
from dicomnode.inference.standin import StandInEngine
from dicomnode.manifest import ModelPackageErrors
from tests.unit.inference.models import failing_model, not_finite_model, write_package

PACKAGE = standin.package()
SHIPPED = packages.load(packages.shipped_models_folder() / "ct-lung")


class Recorded(StandInEngine):
    """Says what it was asked."""

    def __init__(self, cause: str = "") -> None:
        super().__init__(PACKAGE.manifest)
        self.cause = cause
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False

    def run(self, batch: Batch) -> Batch:
        self.shapes.append(batch.shape)
        if self.cause:
            raise ModelError("inference-failed", cause=self.cause)
        return super().run(batch)

    def close(self) -> None:
        self.closed = True


def kind(engine: Engine | None = None, *, absence: str | None = None) -> Kind:
    def make(package: Package, threads: int) -> Engine:
        if engine is None:
            raise ModelPackageErrors(("network: it is none",))
        return engine

    return Kind(absence=lambda: absence, make=make)


def test_auto_takes_the_first_that_is_there_and_can() -> None:
    engine = Recorded()
    kinds = {"gone": kind(absence="not installed"), "wrong": kind(), "right": kind(engine), "later": kind(Recorded())}
    opened = open_engine(PACKAGE, kinds=kinds)
    assert opened.engine is engine
    assert opened.why == "auto, gone not installed, wrong cannot run this network"


def test_an_engine_has_run_before_it_is_handed_out() -> None:
    engine = Recorded()
    open_engine(PACKAGE, "one", kinds={"one": kind(engine)})
    assert engine.shapes == [(1, 1, 32, 32, 32)]


def test_an_engine_that_loads_and_cannot_run_is_passed_over_and_closed() -> None:
    broken, whole = Recorded("engine-failed"), Recorded()
    opened = open_engine(PACKAGE, kinds={"broken": kind(broken), "whole": kind(whole)})
    assert opened.engine is whole
    assert broken.closed


def test_what_zeros_lead_to_is_no_fault() -> None:
    engine = Recorded("output-not-finite")
    assert open_engine(PACKAGE, "one", kinds={"one": kind(engine)}).engine is engine


def test_a_named_engine_is_taken_or_none() -> None:
    kinds = {"first": kind(Recorded()), "gone": kind(absence="not installed"), "wrong": kind()}
    assert open_engine(PACKAGE, "first", kinds=kinds).why == "models.engine"
    with pytest.raises(ModelError) as caught:
        open_engine(PACKAGE, "gone", kinds=kinds)
    assert (caught.value.code, caught.value.facts) == (
        "engine-unavailable",
        {"engine": "gone", "cause": "not-installed"},
    )
    with pytest.raises(ModelPackageErrors) as refused:
        open_engine(PACKAGE, "wrong", kinds=kinds)
    assert refused.value.problems == ("network: it is none",)


@pytest.mark.parametrize("wish", [*KINDS, "auto"])
@pytest.mark.parametrize(("model", "runs"), [(failing_model, False), (not_finite_model, True)])
def test_real_engines_are_tried_on_the_package(
    wish: str, model: Callable[[], bytes], runs: bool, tmp_path: Path
) -> None:
    package = packages.load(write_package(tmp_path, model=model()))
    if runs:
        opened = open_engine(package, wish, threads=1)
        assert opened.engine.run(np.full((1, 1, 2, 2, 2), 1, np.float32)).shape == (1, 3, 2, 2, 2)
        return
    with pytest.raises(ModelPackageErrors) as caught:
        open_engine(package, wish, threads=1)
    (problem,) = caught.value.problems
    assert problem.startswith("network: it cannot be run (")


def test_openvino_is_passed_over_where_no_code_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under the unit's MemoryDenyWriteExecute."""

    def refuse(*_given: object, **_named: object) -> None:
        raise PermissionError

    monkeypatch.setattr(choice.mmap, "mmap", refuse)
    assert open_engine(SHIPPED, threads=1).why == "auto, openvino may not make code (MemoryDenyWriteExecute)"
    with pytest.raises(ModelError, match="engine-unavailable") as caught:
        open_engine(SHIPPED, "openvino")
    assert caught.value.facts["cause"] == "may-not-make-code-MemoryDenyWriteExecute"


def test_openvino_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda module: None if module == "openvino" else True)
    assert open_engine(SHIPPED, threads=1).why == "auto, openvino not installed"


def test_the_kernel_refuses_code_as_the_probe_says() -> None:
    """In a process of its own, under the kernel's counterpart of the unit's setting (PR_SET_MDWE, Linux 6.3)."""
    program = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(print('no such setting'))\n"
        "from dicomnode.inference.choice import KINDS\n"
        "print(KINDS['openvino'].absence())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"may not make code (MemoryDenyWriteExecute)", "no such setting"}


def test_the_stand_in_is_taken_only_where_it_is_named() -> None:
    assert "stand-in" not in KINDS
    assert isinstance(open_engine(PACKAGE, "stand-in").engine, StandInEngine)
