"""A population's state in checkpoints: what is frozen stays outside, and is known by its digest.

The weights of a reference model are the same in every checkpoint of a run and can be made again, so only their SHA-256
is written. On the way back `Trainer.init` makes them, and a run whose models have changed meanwhile is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsafe import multihost
from jsafe.population import Population
from jsafe.runs.checkpoint import CheckpointError, Checkpoints, Restored, named_leaves
from jsafe.trainer import TrainState


def digest(frozen: Any) -> str | None:
    """SHA-256 of the names, types, shapes and bytes of a tree of arrays; None if there are none.

    With arrays that are spread over several processes all of them must ask.
    """
    hasher, empty = hashlib.sha256(), True
    for name, leaf in named_leaves(frozen):
        # One leaf at a time: the tree may be as large as the memory.
        array = np.ascontiguousarray(multihost.on_host(leaf))
        hasher.update(f"{name} {array.dtype} {array.shape}".encode())
        hasher.update(array.reshape(-1).view(np.uint8).data)
        empty = False
    return None if empty else hasher.hexdigest()


def save(checkpoints: Checkpoints, iteration: int, state: TrainState, frozen_digest: str | None) -> Path:
    """Write a checkpoint without `TrainState.frozen`.

    Raises:
        CheckpointError: see `Checkpoints.save`.
    """
    return checkpoints.save(iteration, state.replace(frozen=()), {"frozen": frozen_digest} if frozen_digest else None)


def restore(
    checkpoints: Checkpoints,
    population: Population,
    keys: jax.Array,
    hyper: Mapping[str, Any] | None = None,
    iteration: int | None = None,
) -> Restored:
    """Read the newest good checkpoint of a population, on its devices and with what is frozen.

    Args:
        checkpoints: checkpoints of the run.
        population: population of the run's trainer.
        keys: the run began with, `[seeds]`.
        hyper: replaced hyper-parameters it began with.
        iteration: a particular checkpoint instead.

    Raises:
        CheckpointError: see `Checkpoints.restore`; or what is frozen is not what the run was made with.
    """
    template = jax.eval_shape(lambda keys: population.init(keys, hyper), keys)
    restored = checkpoints.restore(template.replace(frozen=()), iteration)
    frozen = population.frozen(keys, hyper) if jax.tree.leaves(template.frozen) else template.frozen
    if digest(frozen) != restored.extra.get("frozen"):
        raise CheckpointError(
            f"{checkpoints.path(restored.iteration)} was made with other frozen weights: the files of a model that the "
            "run began with have changed; put them back, or start a new run"
        )
    return restored._replace(state=population.place(restored.state).replace(frozen=frozen))
