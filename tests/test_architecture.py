"""The house holds itself: floors, house numbers, and what must never stand in the tree. Waivers are lines below."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dicomnode"
MAXIMUM_FILE_LINES = 400
MAXIMUM_FUNCTION_LINES = 40
MAXIMUM_POSITIONAL = 5
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "handler", "util", "misc"}

#: Reviewed exceptions: path → why.
LONG_FILES: dict[str, str] = {}
#: path::function → why.
LONG_FUNCTIONS: dict[str, str] = {}


def sources() -> list[Path]:
    """Python files of the package and of the recipes of models."""
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "models").rglob("*.py")])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parsed(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def name(path: Path) -> str:
    """Path within the checkout."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=name)
def test_a_file_is_a_room_with_one_purpose_said_in_its_first_lines(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAXIMUM_FILE_LINES or name(path) in LONG_FILES
    assert path.stem not in FORBIDDEN_NAMES
    if text.strip():
        assert ast.get_docstring(parsed(path)), "the first lines say what may live here"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_functions_are_short_and_take_few_positional_parameters(path: Path) -> None:
    faults = []
    for function in functions(parsed(path)):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if lines > MAXIMUM_FUNCTION_LINES and f"{name(path)}::{function.name}" not in LONG_FUNCTIONS:
            faults.append(f"{function.name}: {lines} lines")
        positional = [*function.args.posonlyargs, *function.args.args]
        own = [one for one in positional if one.arg not in ("self", "cls")]
        decorators = {ast.unparse(one).split("(")[0] for one in function.decorator_list}
        if len(own) > MAXIMUM_POSITIONAL and not decorators & {"app.command"}:
            faults.append(f"{function.name}: {len(own)} positional parameters")
    assert not faults


@pytest.mark.parametrize("path", sources(), ids=name)
def test_no_exception_is_swallowed(path: Path) -> None:
    faults = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            if broad and all(isinstance(one, ast.Pass | ast.Continue) for one in node.body):
                faults.append(node.lineno)
    assert not faults


def test_the_environment_is_read_at_the_door_alone() -> None:
    doors = {
        "dicomnode/cli/keys.py",
        "dicomnode/cli/main.py",
        "dicomnode/cli/models.py",
        "dicomnode/cli/options.py",
        "dicomnode/cli/replays.py",
        "dicomnode/cli/routes.py",
        "dicomnode/cli/offline.py",
        "dicomnode/inference/onnx.py",  # writes: the only way to turn the library's telemetry off
    }
    readers = {
        name(path)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }
    assert readers <= doors


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    graph = {module: set(imports) for module, imports in _imports()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for imported in sorted(graph.get(module, ())):
            visit(imported, (*path, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


def _imports() -> Iterator[tuple[str, set[str]]]:
    modules = {_module(path): path for path in PACKAGE.rglob("*.py")}
    for module, path in modules.items():
        found: set[str] = set()
        for node in parsed(path).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found.add(whole if whole in modules else node.module)
        yield module, {one for one in found if one in modules and one != module}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


#: path::function → why what it is asked with comes from no file and no peer: it may remember all of it for good.
ENDLESS_MEMORIES: dict[str, str] = {
    "dicomnode/imaging/plane.py::_tag": "keywords of our own code",
    "dicomnode/imaging/typeface.py::font": "sizes of our own pages",
    "dicomnode/inference/tensorrt.py::_quiet": "one module",
    "dicomnode/inference/tensorrt.py::library": "modules that we name",
    "dicomnode/storage/database.py::_insertion": "tables of the schema",
    "dicomnode/storage/database.py::_replacement": "tables of the schema",
}


def test_a_memory_of_what_files_say_has_an_end() -> None:
    """`cache` keeps everything that it was ever asked with: a node runs for years, and values of headers are names, too."""
    found = {
        f"{name(path)}::{function.name}"
        for path in PACKAGE.rglob("*.py")
        for function in functions(parsed(path))
        if ast.unparse(function.args) and {"cache", "functools.cache"} & set(map(ast.unparse, function.decorator_list))
    }
    assert found == ENDLESS_MEMORIES.keys()
    assert not [
        name(path) for path in PACKAGE.rglob("*.py") if re.search(r"maxsize=None|lru_cache\(None", path.read_text())
    ]


def test_the_floors_hold() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_receiver_stays_lean() -> None:
    """Receivers are to become processes of their own: what they import must not drag in the engines."""
    heavy = "dbos", "highdicom", "onnxruntime", "scipy"
    program = (
        "import sys, dicomnode.network.acceptor, dicomnode.storage.spool;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def tracked() -> list[str]:
    """Files that git knows; all files where there is no git."""
    result = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return [name(path) for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [one for one in result.stdout.splitlines() if (ROOT / one).is_file()]


def test_no_private_key_stands_in_the_tree() -> None:
    marker = b"PRIVATE" + b" KEY-----"
    assert [one for one in tracked() if marker in (ROOT / one).read_bytes()] == []


def test_nothing_in_the_tree_names_a_machine() -> None:
    words = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "farm/", "files\\.pythonhosted", "deb\\.debian"]))
    faults = [
        one
        for one in tracked()
        if not one.endswith((".onnx", ".png", ".lock", ".csv"))
        and words.search((ROOT / one).read_text("utf-8", "replace"))
    ]
    assert faults == []


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-ocr.lock", "requirements-train.lock"):
        text = (ROOT / lock).read_text("utf-8")
        pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\\n]+)", text, re.MULTILINE)
        assert len(pins) > (10 if lock == "requirements-ocr.lock" else 30)  # what the extra needs beside the base
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text
        assert not [version for _, version in pins if "+" in version]
        assert not {"torch", "triton", "tensorrt", "pycuda"} & {package for package, _ in pins}
        assert not [package for package, _ in pins if package.startswith(("nvidia-", "cuda-"))]


def test_the_lock_of_the_viewer_holds_integrity_and_no_addresses() -> None:
    """Nothing but the built viewer is fetched: no code of its dependencies comes along."""
    text = (ROOT / "tests/viewer/package-lock.json").read_text("utf-8")
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert list(packages) == ["node_modules/@ohif/app"]
    assert all(one["integrity"].startswith("sha512-") and one["version"] for one in packages.values())
    assert "://" not in text


def test_whoever_installs_a_lock_resolves_nothing() -> None:
    """A lock is whole: a resolver that looks at the index again can find a release that no hash knows, and stop."""
    lines = [
        line
        for one in ("Makefile", "deploy/install.sh", "deploy/bundle.sh")
        for line in (ROOT / one).read_text("utf-8").splitlines()
        if "--require-hashes" in line
    ]
    assert len(lines) >= 6
    assert [line for line in lines if "--no-deps" not in line] == []


def test_the_base_install_takes_no_gpl() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = [re.split(r"[<>=\[ ]", one)[0] for one in project["dependencies"]]
    assert "pylibjpeg-libjpeg" not in names  # GPL; JPEG is decoded by gdcm
    assert project["license"] == "Apache-2.0"
