"""Tests against what the Rust program makes and runs. ``tests/it/python_client.rs`` of the project starts it and says
in environment variables where it is; without them these tests fail.
"""

from __future__ import annotations

import os

#: The longest that anything may take on a slow, shared machine.
PATIENCE = 30.0


def given(name: str) -> str:
    """A variable that the Rust side sets."""
    value = os.environ.get(name)
    if value is None:
        raise KeyError(f"{name} is not set: run 'cargo test --test it python_client', which sets it")
    return value
