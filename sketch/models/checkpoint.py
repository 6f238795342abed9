"""Folders of trained models: `model.json` describes the model, `model.safetensors` holds its parameters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_type_hints

import jax
import numpy as np

from jsafe.config import Config
from jsafe.suggestions import did_you_mean
from sketch.models import classifier, discriminator, predictor, sketch_rnn
from sketch.models.classifier import TrainedClassifier
from sketch.models.discriminator import TrainedDiscriminator
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.predictor import TrainedPredictor, guidance_size
from sketch.models.sketch_rnn import SketchRNN

DESCRIPTION = "model.json"
TENSORS = "model.safetensors"
PREDICTOR = "predictor"
"""Folder of the predictor inside the folder of a guided model."""
SEPARATOR = "/"
"""Separator of tree keys in the name of a tensor."""

M = TypeVar("M")


class Kind(NamedTuple):
    """A kind of trained model.

    Attributes:
        model: NamedTuple or dataclass with `params` (nested dicts of arrays), one `Config` field, and JSON fields.
        init: `(model without params, key) -> params`, of which only shapes and types are used.
    """

    model: type
    init: Callable[[Any, jax.Array], Any]


KINDS: dict[str, Kind] = {
    "sketch_rnn": Kind(SketchRNN, lambda model, key: sketch_rnn.init(model.config, key)),
    "predictor": Kind(TrainedPredictor, lambda model, key: predictor.init(model.size, key)),
    "discriminator": Kind(TrainedDiscriminator, lambda model, key: discriminator.init(model.size, key)),
    "judge": Kind(TrainedClassifier, lambda model, key: classifier.init(model.size, len(model.classes), key)),
}
"""Kinds of models by their name in `model.json`."""


def save(folder: Path | str, model: Any) -> None:
    """Write a trained model.

    Files are written under temporary names and renamed, so that no file is incomplete. The digest in the description
    detects files that do not belong together.

    Args:
        folder: folder to create; a model in it is replaced.
        model: one of `KINDS`, or a `GuidedSketchRNN`, whose predictor is written to a folder inside.

    Raises:
        TypeError: if the model has another type, or its parameters are not nested dicts of arrays.
        ValueError: if a parameter has another shape than the sizes imply, or is not finite.
    """
    from safetensors.numpy import save as packed

    folder = Path(folder)
    if isinstance(model, GuidedSketchRNN):
        if model.guided and model.predictor is not None:
            save(folder / PREDICTOR, model.predictor)
        model = model.model
    name = _name(type(model))
    bare = _replace_params(model, None)
    tensors = {key: np.asarray(leaf) for key, leaf in _leaves(model.params)}
    _check(tensors, bare, name, f"this {name}")
    content = packed({key: np.asarray(value, order="C") for key, value in tensors.items()})
    fields = {key: _plain(value) for key, value in _fields(model).items() if key != "params"}
    description = {"kind": name, **fields, "sha256": hashlib.sha256(content).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in ((TENSORS, content), (DESCRIPTION, json.dumps(description, indent=1).encode() + b"\n")):
        (folder / f"{file}.tmp").write_bytes(data)
        (folder / f"{file}.tmp").replace(folder / file)


def open_model(folder: Path | str, kind: type[M] | None = None) -> M:
    """Read a trained model, with its parameters on the host.

    Args:
        folder: folder that `save` wrote.
        kind: class of the expected model, for example `SketchRNN`; None for any.

    Raises:
        FileNotFoundError: if the folder or one of its files is missing.
        ValueError: if the model is of another kind, a file is damaged, or a tensor is missing, unexpected, not finite,
            or of another shape than the sizes imply; the message names the file and the tensor.
    """
    folder = Path(folder)
    target = None if kind is None else _name(kind)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {DESCRIPTION}; expected the folder of a trained model")
    name, bare, digest = _read_description(path)
    if target not in (None, name):
        raise ValueError(f"{folder} must hold a {target}, got a {name}")
    path = folder / TENSORS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {TENSORS}, the parameters of its {name}")
    content = path.read_bytes()
    tensors = _read_tensors(path, content)
    _check(tensors, bare, name, str(path))
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"{path} does not match the digest in {DESCRIPTION}; it is damaged or belongs to another model"
        )
    return cast(M, _replace_params(bare, _tree(tensors)))


def find_model(path: Path | str) -> Path:
    """Return the folder of the model at a path, which is that folder or the folder of a training run.

    Raises:
        FileNotFoundError: if there is no model.
    """
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / DESCRIPTION).is_file():
            return folder
    if (path / "run.json").is_file():
        raise FileNotFoundError(
            f"the run at {path} has no model yet; resume it, or export a checkpoint with "
            f"jsafe sketch export {path} --out DIR"
        )
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    raise FileNotFoundError(f"{path} must be the folder of a trained model or of a run, got another folder")


def load_model(path: Path | str, kind: type[M] | None = None, label: str = "the model") -> M:
    """Read a trained model from its folder or the folder of its run.

    Args:
        path: either folder.
        kind: class of the expected model; None for any.
        label: purpose of the model, in error messages.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: if the model is of another kind, or its files are damaged.
    """
    folder = find_model(path)
    model = open_model(folder)
    if kind is not None and not isinstance(model, kind):
        expected, got = (_name(cls).replace("_", "-") for cls in (kind, type(model)))
        raise ValueError(f"{label} must be a {expected}, got a {got} in {folder}")
    return cast(M, model)


def load_generator(path: Path | str, label: str = "the model", predictor: Path | str | None = None) -> GuidedSketchRNN:
    """Read a generator, with a given predictor or the predictor that is stored with it.

    Args:
        path: folder of the generator or of its run.
        label: purpose of the generator, in error messages.
        predictor: folder of a predictor or of its run.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if the generator needs a predictor, or a predictor of another size.
    """
    model = load_model(path, SketchRNN, label)
    stored, extra_inputs = find_model(path) / PREDICTOR, model.config.extra_inputs
    trained = None
    if predictor is not None:
        trained = load_model(predictor, TrainedPredictor, "--predictor")
    elif extra_inputs and stored.is_dir():
        trained = load_model(stored, TrainedPredictor, "the predictor of a guided model")
    if extra_inputs and trained is None:
        raise ValueError(f"{path} is a guided model and needs its predictor; add --predictor DIR")
    if extra_inputs and trained is not None and guidance_size(trained.size) != extra_inputs:
        raise ValueError(
            f"the predictor of {path} must give {extra_inputs} extra inputs, got {guidance_size(trained.size)}"
        )
    return GuidedSketchRNN(model, trained)


def _fields(model: Any) -> dict[str, Any]:
    if isinstance(model, TrainedClassifier):
        return {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return model._asdict()


def _replace_params(model: Any, params: Any) -> Any:
    if isinstance(model, TrainedClassifier):
        return dataclasses.replace(model, params=params)
    return model._replace(params=params)


def _name(model: type) -> str:
    for name, kind in KINDS.items():
        if kind.model is model:
            return name
    kinds = ", ".join(kind.model.__name__ for kind in KINDS.values())
    raise TypeError(f"a trained model must be one of {kinds}, got {model.__name__}")


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.config()
    return list(value) if isinstance(value, tuple) else value


def _read_description(path: Path) -> tuple[str, Any, str]:
    """Read kind, model without parameters, and digest of the tensors."""
    from typeguard import TypeCheckError, check_type

    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} must be JSON, got a damaged file: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        raise ValueError(f"{path} has no kind of model")
    name = description.pop("kind")
    if name not in KINDS:
        raise ValueError(f"{path}: unknown kind {name!r}{did_you_mean(name, KINDS)} (kinds: {', '.join(KINDS)})")
    model = KINDS[name].model
    hints = {key: hint for key, hint in get_type_hints(model).items() if key != "params"}
    digest = description.pop("sha256", None)
    defaults: Mapping[str, Any] = getattr(model, "_field_defaults", {})
    description = {**{key: _plain(value) for key, value in defaults.items()}, **description}
    missing, more = sorted(hints.keys() - description.keys()), sorted(description.keys() - hints.keys())
    if missing or more or not isinstance(digest, str):
        faults = [*(f"lacks {key}" for key in missing), *(f"has an unknown {key}" for key in more)]
        raise ValueError(f"{path} {' and '.join(faults or ['lacks sha256'])}")
    fields: dict[str, Any] = {"params": None}
    for key, hint in hints.items():
        value = description[key]
        try:
            if isinstance(hint, type) and issubclass(hint, Config):
                fields[key] = hint(**value)
            else:
                fields[key] = check_type(tuple(value) if isinstance(value, list) else value, hint)
        except (TypeError, ValueError, TypeCheckError) as error:
            raise ValueError(f"{path}: {key}: {error}") from error
    return name, model(**fields), digest


def _read_tensors(path: Path, content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError) as error:  # the latter two: a type unknown to NumPy
        raise ValueError(f"{path} must be a safetensors file, got a damaged one: {error}") from error


def _check(tensors: Mapping[str, np.ndarray], bare: Any, name: str, owner: str) -> None:
    """Raise a ValueError unless the tensors fit the sizes of the model."""
    target = dict(_leaves(jax.eval_shape(lambda key: KINDS[name].init(bare, key), jax.random.key(0))))
    for key, leaf in target.items():
        if key not in tensors:
            raise ValueError(f"{owner} has no tensor {key}")
        tensor = tensors[key]
        if tensor.shape != leaf.shape or tensor.dtype != leaf.dtype:
            raise ValueError(
                f"{owner}: {key} must be {leaf.dtype} {list(leaf.shape)} in a {name} of these sizes, "
                f"got {tensor.dtype} {list(tensor.shape)}"
            )
        if not np.isfinite(tensor).all():
            raise ValueError(f"{owner}: {key} must be finite, got NaN or infinity")
    if more := sorted(tensors.keys() - target.keys()):
        raise ValueError(f"{owner} has an unexpected tensor {more[0]} for a {name} of these sizes")


def _leaves(tree: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            if SEPARATOR in key:
                raise TypeError(f"the name of a parameter must not contain {SEPARATOR!r}, got {key!r}")
            yield from _leaves(branch, (*names, key))
    elif hasattr(tree, "shape"):
        yield SEPARATOR.join(names), tree
    else:
        raise TypeError(
            f"params must be nested dicts of arrays, got {type(tree).__name__} at {SEPARATOR.join(names)!r}"
        )


def _tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *path, last = name.split(SEPARATOR)
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = tensor
    return tree
