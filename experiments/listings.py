"""`jsafe envs` and `jsafe algorithms`: what there is."""

from __future__ import annotations

import argparse

from experiments.context import prepare
from experiments.outcome import Outcome, table


def envs(args: argparse.Namespace) -> Outcome:
    """Run `jsafe envs`: ids with sizes, cost names, time limit and simulators."""
    prepare(args)
    import envs_mjx

    found = []
    for env_id in envs_mjx.ids():
        spec = envs_mjx.make(env_id).spec
        found.append(
            {
                "id": env_id,
                "observation_size": spec.observation_size,
                "action_size": spec.action_size,
                "cost_names": list(spec.cost_names),
                "episode_length": spec.episode_length,
                "control_dt": spec.control_dt,
                "physics": list(envs_mjx.BACKENDS),
            }
        )
    header = ["environment", "observation", "action", "steps", "costs"]
    rows = [
        [
            e["id"],
            str(e["observation_size"]),
            str(e["action_size"]),
            str(e["episode_length"]),
            ", ".join(e["cost_names"]) or "none",
        ]
        for e in found
    ]
    text = table(header, rows) + f"\n\n{len(found)} environments; physics: {', '.join(envs_mjx.BACKENDS)}"
    return Outcome({"envs": found}, text)


def algorithms(args: argparse.Namespace) -> Outcome:
    """Run `jsafe algorithms`: names, presets and hyper-parameters."""
    import algorithms as registry

    found = [registry.describe(name) for name in registry.names()]
    rows = [
        [facts["name"], ", ".join(facts["presets"]), ", ".join(facts["aliases"]), facts["summary"]] for facts in found
    ]
    text = table(["algorithm", "presets", "also called", "what it is"], rows)
    return Outcome({"algorithms": found}, f"{text}\n\nhyper-parameters: jsafe train ALGO --help")
