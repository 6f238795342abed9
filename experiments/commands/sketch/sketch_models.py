"""Trained models of drawings as commands are given them: the folder of a run, or of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.result import CommandError
from sketch.data import strokes
from sketch.models import checkpoint, sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator, recognisability
from sketch.models.predictor import TrainedPredictor, guidance_size
from sketch.raster import BOX
from sketch.sampling.guided_sampling import Chosen, Inspection, best_of, draw_guided
from sketch.sampling.sample import Drawn
from sketch.training.stages import SketchRNN

M = TypeVar("M")

GUIDE = "predictor"
"""Folder inside that of a guided model: of the predictor that it was trained with."""


def place(path: Path) -> Path:
    """The folder of the model that a path stands for.

    Raises:
        CommandError: there is none.
    """
    for found in (path, path / "model"):
        if (found / checkpoint.DESCRIPTION).is_file():
            return found
    if (path / "run.json").is_file():
        raise CommandError(
            f"the run at {path} has no model yet: go on with it, or take one of its checkpoints with "
            f"jsafe sketch export {path} --out DIR"
        )
    if not path.is_dir():
        raise CommandError(f"there is no folder {path}")
    raise CommandError(f"{path} is neither the folder of a trained model nor of a run of `jsafe sketch`")


def opened(path: Path | str, kind: type[M] | None, what: str) -> M:
    """A trained model from the folder of a run, or its own.

    Args:
        path: of either.
        kind: class that it must be of; None for any.
        what: the word or flag that named it, for the message.

    Raises:
        CommandError: there is no model there, or one of another kind.
        ValueError: its files are damaged.
    """
    at = place(Path(path))
    model = checkpoint.open_model(at)
    if kind is not None and not isinstance(model, kind):
        names = {cls.model: name.replace("_", "-") for name, cls in checkpoint.KINDS.items()}
        raise CommandError(f"{what} wants a {names[kind]}, and {at} holds a {names[type(model)]}")
    return model


class Artist(NamedTuple):
    """A model that draws, and a predictor: the decoder is told what it says, or it chooses among candidates, or both.

    Attributes:
        model: the decoder.
        predictor: None for none.
    """

    model: SketchRNN
    predictor: TrainedPredictor | None = None

    @property
    def guided(self) -> bool:
        """Whether the decoder is told what the predictor says."""
        return self.model.config.extra_inputs > 0

    @property
    def framed(self) -> bool:
        """Whether drawings begin at the centre of the box."""
        return self.guided or self.model.framed

    def to_model(self, drawing: np.ndarray) -> np.ndarray:
        """stroke-3 in the unit of the model."""
        found = np.array(drawing, np.float32)
        if self.framed:
            found[:1, :2] -= BOX / 2
        found[:, :2] /= self.model.scale_factor
        return found

    def from_model(self, rows: Any) -> list[np.ndarray]:
        """stroke-3 in the unit that the model learned from, of stroke-5 `[B, N, 5]` in its own."""
        found = []
        for row in np.asarray(rows):
            drawing = strokes.from_stroke5(row)
            drawing[:, :2] *= self.model.scale_factor
            if self.framed:
                drawing[:1, :2] += BOX / 2
            found.append(drawing)
        return found


def artist(path: Path | str, what: str, predictor: Path | str | None = None) -> Artist:
    """A model that draws, with the predictor that is named or the one it was trained with.

    Raises:
        CommandError: there is no such model, or it needs a predictor of another size or has none.
        ValueError: its files are damaged.
    """
    model = opened(path, SketchRNN, what)
    beside = place(Path(path)) / GUIDE
    told, guide = model.config.extra_inputs, None
    if predictor is not None:
        guide = opened(predictor, TrainedPredictor, "--predictor")
    elif told and beside.is_dir():
        guide = opened(beside, TrainedPredictor, "a guided model")
    if told and guide is None:
        raise CommandError(f"{path} is guided by a predictor: name it with --predictor DIR")
    if told and guide is not None and guidance_size(guide.size) != told:
        raise CommandError(f"{path} is told {told} numbers, and the predictor gives {guidance_size(guide.size)}")
    return Artist(model, guide)


def save(where: Path, model: Any) -> None:
    """Write a trained model; of an artist that is guided, the predictor too, inside its folder."""
    if isinstance(model, Artist):
        if model.guided and model.predictor is not None:
            checkpoint.save(where / GUIDE, model.predictor)
        model = model.model
    checkpoint.save(where, model)


class Way(NamedTuple):
    """How drawings are sampled.

    Attributes:
        length: most rows.
        convention: of `sketch.sampling.sample.CONVENTIONS`.
        inspection: how strokes are chosen among candidates; None to take them as they come.
        critic: what says how good a drawing is; None to take the first.
        tries: drawings of which the critic chooses one.
    """

    length: int
    convention: str = "paper"
    inspection: Inspection | None = None
    critic: TrainedDiscriminator | None = None
    tries: int = 1


def pencil(by: Artist, way: Way) -> Callable[..., Chosen]:
    """A compiled program: `(key, temperature [B], given=, given_lengths=, z=) -> Chosen`, rows in the model's unit.

    A model with an encoder finishes what is given as what it takes that for, if no latent vectors are given.
    """
    held = by.model.params, None if by.predictor is None else by.predictor.params
    look: Any = None if way.critic is None else recognisability(way.critic.size)
    # Without a reason to look at the canvas the loop is that of the plain model.
    looks = by.guided or way.inspection is not None

    @jax.jit
    def draw(weights: Any, critic: Any, key: jax.Array, temperature: jax.Array, rest: dict[str, jax.Array]) -> Chosen:
        model = by.model._replace(params=weights[0])
        guide = by.predictor._replace(params=weights[1]) if looks and by.predictor is not None else None
        key, lot = jax.random.split(key)
        if model.config.conditional and "given" in rest:
            lengths = rest["given_lengths"]
            known = sketch_rnn.encode(model.config, model.params, rest["given"], lengths).mean
            anyhow = jax.random.normal(lot, known.shape)
            rest = {"z": jnp.where(lengths[:, None] > 0, known, anyhow), **rest}

        def once(key: jax.Array) -> Drawn:
            inspection = way.inspection if guide else None
            more: dict[str, Any] = {"convention": way.convention, **rest}
            return draw_guided(model, guide, key, temperature, way.length, inspection, **more)

        if look is not None:
            return best_of(lambda drawings: look(critic, drawings), once, way.tries)(key)
        unknown = jnp.full(len(temperature), jnp.nan)
        return Chosen(once(key), unknown, unknown, unknown, jnp.zeros(len(temperature), jnp.int32))

    critic = None if way.critic is None else way.critic.params
    return lambda key, temperature, **rest: draw(held, critic, key, jnp.asarray(temperature), rest)


def in_batches(
    draw: Callable[..., Chosen], seed: int, size: int, temperature: np.ndarray, **each: np.ndarray
) -> Chosen:
    """Drawings of a program that draws so many at once, on the host.

    Args:
        draw: see `pencil`.
        seed: root of all randomness.
        size: drawings of a batch.
        temperature: `[N]`.
        each: further arrays `[N, ...]` that it takes.
    """
    parts = []
    for number, begin in enumerate(range(0, len(temperature), size)):
        rows = np.minimum(np.arange(begin, begin + size), len(temperature) - 1)
        key = jax.random.fold_in(jax.random.key(seed), number)
        found = draw(key, temperature[rows], **{name: jnp.asarray(array[rows]) for name, array in each.items()})
        real = min(size, len(temperature) - begin)
        parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:real], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def begun_rows(by: Artist, begun: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Drawings that were begun as a pencil takes them: `given`, stroke-5 `[B, length, 5]`, and `given_lengths` `[B]`.

    Args:
        by: who goes on.
        begun: stroke-3 each, in the unit that its model learned from.
        length: at least that of the longest.
    """
    rows = np.stack([strokes.to_stroke5(by.to_model(drawing), length) for drawing in begun])
    return {"given": rows, "given_lengths": np.array([len(drawing) for drawing in begun], np.int32)}
