"""Trained models of drawings as folders: `model.json` says what they are, `model.safetensors` has their numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_type_hints

import jax
import numpy as np

from jsafe.config import Hyper, nearest
from sketch.judges import classifier
from sketch.judges.classifier import TrainedJudge
from sketch.models import discriminator, predictor, sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator
from sketch.models.predictor import TrainedPredictor
from sketch.training.stages import SketchRNN

DESCRIPTION = "model.json"
TENSORS = "model.safetensors"
BETWEEN = "/"
"""Between the keys of a tree in the name of a tensor."""

M = TypeVar("M")


class Kind(NamedTuple):
    """A kind of trained model.

    Attributes:
        model: NamedTuple with `params`, nested dicts of arrays; one field that is a `Hyper`; and fields that JSON can
            hold.
        init: `(model without params, key) -> params`; only shapes and types of what it gives are looked at.
    """

    model: type
    init: Callable[[Any, jax.Array], Any]


KINDS: dict[str, Kind] = {
    "sketch_rnn": Kind(SketchRNN, lambda model, key: sketch_rnn.init(model.config, key)),
    "predictor": Kind(TrainedPredictor, lambda model, key: predictor.init(model.size, key)),
    "discriminator": Kind(TrainedDiscriminator, lambda model, key: discriminator.init(model.size, key)),
    "judge": Kind(TrainedJudge, lambda model, key: classifier.init(model.size, len(model.classes), key)),
}
"""What can be saved, by the names in `model.json`."""


def save(folder: Path | str, model: Any) -> None:
    """Write a trained model.

    Files are written under other names first, so that neither is ever half a file; what tells that two files do not
    belong together is the digest in the description.

    Args:
        folder: made if it does not exist; a model in it is replaced.
        model: one of `KINDS`.

    Raises:
        TypeError: another thing, or parameters that are not nested dicts of arrays.
        ValueError: parameters of other shapes than the sizes say, or numbers that are not finite.
    """
    from safetensors.numpy import save as packed

    folder = Path(folder)
    name = _name(type(model))
    bare = model._replace(params=None)
    tensors = {key: np.asarray(leaf) for key, leaf in _leaves(model.params)}
    _check(tensors, bare, name, f"this {name}")
    content = packed({key: np.asarray(value, order="C") for key, value in tensors.items()})
    fields = {key: _plain(value) for key, value in model._asdict().items() if key != "params"}
    description = {"kind": name, **fields, "sha256": hashlib.sha256(content).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in ((TENSORS, content), (DESCRIPTION, json.dumps(description, indent=1).encode() + b"\n")):
        (folder / f"{file}.tmp").write_bytes(data)
        (folder / f"{file}.tmp").replace(folder / file)


def open_model(folder: Path | str, kind: type[M] | None = None) -> M:
    """Read a trained model, with its arrays on the host.

    Args:
        folder: that `save` wrote.
        kind: class of the model that is wanted, for example `SketchRNN`; None for any.

    Raises:
        FileNotFoundError: there is no model, or one of its files is missing.
        ValueError: the model is of another kind, a file is damaged, or a tensor is missing, too many, of another shape
            than the sizes say, or not finite; the message names the file and the tensor.
    """
    folder = Path(folder)
    wanted = None if kind is None else _name(kind)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {DESCRIPTION}: expected the folder of a trained model of drawings")
    found, bare, digest = _described(path)
    if wanted not in (None, found):
        raise ValueError(f"{folder} holds a {found}, and a {wanted} is wanted")
    path = folder / TENSORS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {TENSORS}, the numbers of its {found}")
    content = path.read_bytes()
    tensors = _unpacked(path, content)
    _check(tensors, bare, found, str(path))
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path} is not the file that {DESCRIPTION} was written with: it is damaged or was exchanged")
    return cast(M, bare._replace(params=_tree(tensors)))


def _name(model: type) -> str:
    for name, kind in KINDS.items():
        if kind.model is model:
            return name
    known = ", ".join(kind.model.__name__ for kind in KINDS.values())
    raise TypeError(f"{model.__name__} is no trained model of drawings (kinds: {known})")


def _plain(value: Any) -> Any:
    if isinstance(value, Hyper):
        return value.config()
    return list(value) if isinstance(value, tuple) else value


def _described(path: Path) -> tuple[str, Any, str]:
    """Kind, model without parameters, and digest of the tensors' file."""
    from typeguard import TypeCheckError, check_type

    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is not JSON, or it is damaged: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        raise ValueError(f"{path} does not say what kind of model it describes")
    name = description.pop("kind")
    if name not in KINDS:
        raise ValueError(f"{path}: there is no kind {name!r}{nearest(name, KINDS)} (kinds: {', '.join(KINDS)})")
    model = KINDS[name].model
    hints = {key: hint for key, hint in get_type_hints(model).items() if key != "params"}
    digest = description.pop("sha256", None)
    missing, more = sorted(hints.keys() - description.keys()), sorted(description.keys() - hints.keys())
    if missing or more or not isinstance(digest, str):
        told = [*(f"lacks {key}" for key in missing), *(f"has an unknown {key}" for key in more)]
        raise ValueError(f"{path} {' and '.join(told or ['lacks sha256'])}")
    fields: dict[str, Any] = {"params": None}
    for key, hint in hints.items():
        value = description[key]
        try:
            if isinstance(hint, type) and issubclass(hint, Hyper):
                fields[key] = hint(**value)
            else:
                fields[key] = check_type(tuple(value) if isinstance(value, list) else value, hint)
        except (TypeError, ValueError, TypeCheckError) as error:
            raise ValueError(f"{path}: {key}: {error}") from error
    return name, model(**fields), digest


def _unpacked(path: Path, content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError) as error:  # the latter two: a type that NumPy does not have
        raise ValueError(f"{path} is not a safetensors file, or it is damaged: {error}") from error


def _check(tensors: Mapping[str, np.ndarray], bare: Any, name: str, owner: str) -> None:
    """Raise a ValueError unless these are the tensors that a model of these sizes has."""
    wanted = dict(_leaves(jax.eval_shape(lambda key: KINDS[name].init(bare, key), jax.random.key(0))))
    for key, leaf in wanted.items():
        if key not in tensors:
            raise ValueError(f"{owner} has no tensor {key}")
        found = tensors[key]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(
                f"{owner}: {key} is {found.dtype} {list(found.shape)}, "
                f"and a {name} of these sizes has {leaf.dtype} {list(leaf.shape)}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"{owner}: {key} has numbers that are not finite")
    if more := sorted(tensors.keys() - wanted.keys()):
        raise ValueError(f"{owner} has a tensor {more[0]}, and a {name} of these sizes has none of this name")


def _leaves(tree: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            if BETWEEN in key:
                raise TypeError(f"{BETWEEN!r} in the name of a parameter: {key!r}")
            yield from _leaves(branch, (*names, key))
    elif hasattr(tree, "shape"):
        yield BETWEEN.join(names), tree
    else:
        raise TypeError(f"params must be nested dicts of arrays, got {type(tree).__name__} at {BETWEEN.join(names)!r}")


def _tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *path, last = name.split(BETWEEN)
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = tensor
    return tree
