"""How the library writes down arguments and results: plain JSON, and of an exception its type alone, since a text can hold a name."""

from __future__ import annotations

import json
from typing import Any

from dbos._serialization import Serializer


class JsonSerializer(Serializer):
    """Plain JSON; an exception is reduced to the name of its type."""

    def serialize(self, data: Any) -> str:
        """Text of a value."""
        return json.dumps(data, default=lambda value: {"error": type(value).__name__})

    def deserialize(self, serialized_data: str) -> Any:
        """Value of a text; an exception comes back as a bare one of the same name."""
        value = json.loads(serialized_data)
        return RuntimeError(value["error"]) if isinstance(value, dict) and set(value) == {"error"} else value

    def name(self) -> str:
        """Name under which rows say how they were written."""
        return "dicomnode_json"
