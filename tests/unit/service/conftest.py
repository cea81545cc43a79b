from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config

MakeTree = Callable[..., Config]


@pytest.fixture
def tree_of(tmp_path: Path) -> MakeTree:
    """Function that gives a configuration with a state folder of its own and the stand-in for a network."""

    def make(**sections: Any) -> Config:
        defaults: dict[str, Any] = {
            "node": {"state": tmp_path / "state"},
            "listen": {"port": 0},
            "intake": {"receivers": 0, "write_mode": "append", "minimum_free_bytes": 0},
            "models": {"engine": "stand-in"},
        }
        for name, section in sections.items():
            defaults[name] = {**defaults.get(name, {}), **section} if isinstance(section, dict) else section
        return Config.model_validate(defaults)

    return make
