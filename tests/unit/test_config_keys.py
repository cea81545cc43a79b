"""Rules across settings that are told together with all others."""

from __future__ import annotations

import pytest

from dicomnode.config import ConfigErrors, parse


@pytest.mark.parametrize("keys", [{"source": "command"}, {"source": "files", "command": ["true"]}])
def test_a_command_and_its_source_belong_together(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({"keys": keys})
    assert any("source is command where" in problem for problem in caught.value.problems)
    parse({"keys": {"source": "command", "command": ["true"]}})
