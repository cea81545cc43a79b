"""highdicom's tables of the standard: sixty megabytes that it reads when it first builds an object, and then keeps.

May live here: letting go of them. They are read again, in a third of a second, when the next object is built.
"""

from __future__ import annotations

from highdicom import _standard_utils


def forget_tables() -> None:
    """Give the memory back; a library that keeps its tables elsewhere keeps them."""
    tables = getattr(_standard_utils, "get_module_attribute_map", None)
    forget = getattr(tables, "cache_clear", None)
    if forget is not None:
        forget()
