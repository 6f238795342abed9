"""Names of algorithms and presets on the command line."""

from __future__ import annotations

from experiments.cli.errors import unknown


def resolve(name: str) -> str:
    """Return the registered name of an algorithm from its name or an alias.

    Raises:
        CommandError: unknown, with the nearest registered name.
    """
    import algorithms

    try:
        return algorithms.resolve(name)
    except ValueError:
        aliases = [alias for known in algorithms.names() for alias in algorithms.describe(known)["aliases"]]
        raise unknown("algorithm", name, [*algorithms.names(), *aliases]) from None


def preset_of(name: str, preset: str | None) -> str:
    """Return the preset to use.

    Raises:
        CommandError: the algorithm has no such preset.
    """
    import algorithms

    facts = algorithms.describe(name)
    if preset is None:
        return facts["default_preset"]
    if preset not in facts["presets"]:
        raise unknown(f"preset of {name}", preset, facts["presets"])
    return preset
