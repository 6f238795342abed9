"""`jsafe envs`: the environments."""

from __future__ import annotations

from experiments.cli.devices import configure
from experiments.cli.format import table
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output


@flags
class EnvsRequest:
    """Settings of `jsafe envs`."""

    machine: Machine = Machine()
    output: Output = Output()


def run(request: EnvsRequest) -> Result:
    """Run `jsafe envs`: ids with sizes, cost names, time limit and simulators."""
    configure(request.machine.platform, request.machine.devices)
    import envs_mjx
    from jsafe.space_records import describe
    from jsafe.spaces import is_flat

    listed = []
    for env_id in envs_mjx.ids():
        spec = envs_mjx.make(env_id).spec
        listed.append(
            {
                "id": env_id,
                "observation": describe(spec.observation),
                "observation_size": spec.observation_size if is_flat(spec.observation) else None,
                "action": describe(spec.action),
                "action_size": spec.action_size if is_flat(spec.action) else 0,
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
            e["observation"],
            e["action"],
            str(e["episode_length"]),
            ", ".join(e["cost_names"]) or "none",
        ]
        for e in listed
    ]
    text = table(header, rows) + f"\n\n{len(listed)} environments; physics: {', '.join(envs_mjx.BACKENDS)}"
    return Result({"envs": listed}, text)
