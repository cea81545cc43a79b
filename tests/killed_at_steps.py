"""A program for tests that kills itself before or after the n-th of some calls, as text to put before the program's own."""

from __future__ import annotations

from typing import Final

#: Gives the program `counted`, which wraps a function whose calls count; n is its second argument.
COUNTED: Final = """
import os, signal, sys
left = int(sys.argv[2])
def counted(function):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper
"""
