# MuJoCo's names come from a compiled module that describes no types, so pyright would call each of them unknown.
from typing import Any

def __getattr__(name: str) -> Any: ...
