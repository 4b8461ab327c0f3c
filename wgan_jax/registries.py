"""Registries such as LOSSES as their modules write them, read without importing these, which would import jax."""

import ast
import functools
from pathlib import Path
from typing import Any


def registered(module: str, registry: str) -> tuple[str, ...]:
    """Returns the keys of a dict literal such as LOSSES without importing its module, which would import jax.

    Raises:
      LookupError: the module has no such dict literal.
    """
    return tuple(_entries(module, registry))


@functools.cache
def described(module: str, registry: str) -> dict[str, dict[str, Any]]:
    """Returns what the entries of a dict literal such as DATASETS say of themselves: {key: keyword arguments of its call}.

    Raises:
      LookupError: the module has no such dict literal, or an entry has keyword arguments that are no literals.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, value in _entries(module, registry).items():
        keywords = value.keywords if isinstance(value, ast.Call) else []
        try:
            told[name] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
        except ValueError as error:
            raise LookupError(f"{module}: {registry}[{name!r}] has keyword arguments that are no literals") from error
    return told


@functools.cache
def _entries(module: str, registry: str) -> dict[str, ast.expr]:
    tree = ast.parse((Path(__file__).parent / module).read_text(encoding="utf-8"))
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == registry and isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            return {key.value: entry for key, entry in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    raise LookupError(f"{module} has no dict {registry}")
