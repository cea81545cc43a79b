"""Every thread that the house begins has a name that is known, or a reason for another: found in the sources, whatever begins it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import dicomnode
from dicomnode.service.faults import OURS

#: Other names of threads, and why their faults need no name of ours.
_OTHERS = {
    "folder-*": "of a watched folder, whose intake tells its faults itself",
    "gpu-opening-*": "ends with what it found, which whoever waits for the device is told",
    "gpu-watch": "of the process of a GPU alone",
    "channel: name": "answers a question of another process, which is told of its fault",
}


def test_every_thread_that_is_begun_anywhere_is_ours_or_has_a_reason() -> None:
    found = {name for path in Path(dicomnode.__file__).parent.rglob("*.py") for name in names_in(path)}
    assert found - OURS == set(_OTHERS)
    assert found >= OURS, "ours are begun somewhere"


def test_a_thread_of_any_other_name_is_found(tmp_path: Path) -> None:
    path = tmp_path / "room.py"
    begun = {
        'threading.Thread(target=run, name="a")': ["a"],
        'Thread(target=run, name=f"b-{number}", daemon=True)': ["b-*"],
        "Thread(target=run, name=name)": ["room: name"],
        "threading.Thread(target=run)": ["room: no name"],
        'class C(threading.Thread):\n    """No call."""': ["room: a class"],
        'timer = threading.Timer(1, run)\ntimer.daemon, timer.name = True, "c"': ["c"],
        'timer = Timer(1, run)\ntimer.name = "c"': ["c"],
        "timer = Timer(1, run)": ["room: a timer without a name"],
        'partial(Housekeeping, emit=emit, name="d")': ["d"],
        'Housekeeping(chores, name="e")': ["e"],
        "Housekeeping(chores)": ["housekeeping"],
        'thread.name = "f"\nother = Pulse(name="g")': [],
    }
    for source, names in begun.items():
        path.write_text(source)
        assert list(names_in(path)) == names, source


def names_in(path: Path) -> Iterator[str]:
    """Names of the threads that a module begins; pools are left out, which give back what their threads raise."""
    source = path.read_text()
    if not re.search(r"\b(Thread|Timer|Housekeeping)\b", source):  # to parse all of the house takes its time
        return
    tree = ast.parse(source)
    timers, named = 0, []
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(bases=bases) if any(_last(base) in ("Thread", "Timer") for base in bases):
                yield f"{path.stem}: a class"
            case ast.Call(func=func, keywords=keywords) if _last(func) == "Thread":
                if f"{path.stem}: {_name(keywords)}" != "housekeeping: name":  # its own are found where they are made
                    yield from _told(path, _name(keywords))
            case ast.Call(func=func) if _last(func) == "Timer":
                timers += 1
            case ast.Call(func=func, args=args, keywords=keywords) if "Housekeeping" in (
                _last(func),
                *map(_last, args),
            ):
                name = _name(keywords)
                if name != "no name":
                    yield from _told(path, name)
                elif _last(func) == "Housekeeping":
                    yield "housekeeping"
            case ast.Assign(targets=[ast.Attribute(attr="name")], value=ast.Constant(value=str(name))):
                named.append(name)
            case ast.Assign(targets=[ast.Tuple(elts=elements)], value=ast.Tuple(elts=values)):
                pairs = zip(elements, values, strict=True)
                named += [ast.unparse(value).strip("'") for one, value in pairs if _last(one) == "name"]
    if timers:
        yield from named
        yield from [f"{path.stem}: a timer without a name"] * (timers - len(named))


def _told(path: Path, name: str) -> Iterator[str]:
    yield name.removeprefix("=") if name.startswith("=") else f"{path.stem}: {name}"


def _name(keywords: list[ast.keyword]) -> str:
    """A name that is written down, with "=" before it; else what is written in its place."""
    for one in keywords:
        match one:
            case ast.keyword(arg="name", value=ast.Constant(value=str(name))):
                return f"={name}"
            case ast.keyword(arg="name", value=ast.JoinedStr(values=[ast.Constant(value=str(name)), *_])):
                return f"={name}*"
            case ast.keyword(arg="name", value=value):
                return ast.unparse(value)
    return "no name"


def _last(node: ast.AST) -> str:
    """Last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
