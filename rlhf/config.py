"""Hyper-parameters of the supervised stages, of adapters and of sampling. Imports nothing heavy.

Those of reinforcement are in `rlhf.reinforcement.reinforcement_config`.
"""

from __future__ import annotations

import dataclasses

from jsafe.config import Config, hyperparameters, option

DTYPES = {"float32": 4, "bfloat16": 2}
"""Types of activations and matrix products, and their bytes per number. Parameters, norms, softmax, positions, logits,
losses and moments are float32 for either type."""

SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")

MATRICES: dict[str, tuple[str, int]] = {
    "q": ("attention", 1), "k": ("attention", 1), "v": ("attention", 1), "o": ("attention", 2),
    "gate": ("mlp", 1), "up": ("mlp", 1), "down": ("mlp", 1),
}  # fmt: skip
"""Matrices that can be adapted: name to the part of a layer, and the number of input axes."""


@hyperparameters
class LoraConfig(Config):
    """Hyper-parameters of low-rank adapters (Hu et al. 2022), shared by all stages."""

    lora_rank: int = option("rank of the trained low-rank adapters; 0 trains every weight", default=0, low=0)
    lora_alpha: float = option("scale of the adapters times their rank", default=16.0, above=0)
    lora_matrices: str = option("names of the adapted matrices, separated by commas", default=",".join(MATRICES))

    def __post_init__(self) -> None:
        """Check each option, and the names of the matrices."""
        super().__post_init__()
        if not self.matrices or set(self.matrices) - set(MATRICES):
            raise ValueError(f"lora_matrices must be some of {','.join(MATRICES)}, got {self.lora_matrices!r}")
        for field in dataclasses.fields(LoraConfig)[1:]:
            if not self.lora_rank and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} changes nothing without a lora_rank of at least 1")

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the adapted matrices."""
        return tuple(name.strip() for name in self.lora_matrices.split(",") if name.strip())

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.lora_alpha / self.lora_rank


@hyperparameters
class TrainingConfig(LoraConfig):
    """Hyper-parameters of the supervised stages (AdamW, Loshchilov and Hutter 2019)."""

    epochs: int = option("passes over the data", default=1, low=1)
    batch_size: int = option("rows of one gradient, a multiple of accumulation", default=16, low=1)
    accumulation: int = option("parts of a batch, processed one after another to save memory", default=1, low=1)
    learning_rate: float = option("largest learning rate", default=2e-5, traced=True, low=0)
    schedule: str = option("learning-rate schedule, one of rlhf.config.SCHEDULES", default="cosine", choices=SCHEDULES)
    warmup_ratio: float = option(
        "fraction of the updates in which the learning rate rises", default=0.03, low=0, high=1
    )
    weight_decay: float = option(
        "decoupled weight decay; biases and the norms of layers are exempt", default=0.0, low=0
    )
    max_grad_norm: float = option("largest norm of a gradient", default=1.0, above=0)
    token_dropout: float = option(
        "fraction of the tokens of a text that are masked in training, drawn for each update",
        default=0.0,
        low=0,
        high=1,
    )
    lora_dropout: float = option(
        "fraction of an adapter's input that is dropped in training", default=0.0, low=0, high=0.99
    )
    remat: bool = option("recompute activations in the backward pass (gradient checkpointing)", default=False)
    loss_chunk: int = option(
        "tokens whose logits a loss keeps in memory at once; 0 for the whole batch", default=1024, low=0
    )
    dtype: str = option(
        "type of activations and matrix products; parameters, losses and moments are float32 for either type",
        default="float32",
        choices=tuple(DTYPES),
    )
    beta1: float = option("Adam's beta1, decay of the first-moment estimate", default=0.9, low=0, high=1)
    beta2: float = option("Adam's beta2, decay of the second-moment estimate", default=0.95, low=0, high=1)

    def __post_init__(self) -> None:
        """Check each option, and that the parts of a batch have one size."""
        super().__post_init__()
        if self.batch_size % self.accumulation:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of accumulation {self.accumulation}")
        if self.lora_dropout and not self.lora_rank:
            raise ValueError("lora_dropout changes nothing without a lora_rank of at least 1")


@hyperparameters
class SamplingConfig(Config):
    """Sampling of the next token: repetition penalty, temperature, `top_k`, `top_p`, in Hugging Face's order."""

    max_new_tokens: int = option("longest answer, in tokens", default=128, low=1)
    temperature: float = option("sampling temperature; 0 is greedy", default=1.0, low=0)
    top_k: int = option("number of most likely tokens to sample from; 0 for all", default=0, low=0)
    top_p: float = option(
        "probability mass of the most likely tokens to sample from (nucleus sampling)", default=1.0, above=0, high=1
    )
    repetition_penalty: float = option(
        "penalty on tokens of prompt and answer if above 1: it divides positive logits and multiplies negative "
        "ones (Keskar et al. 2019)",
        default=1.0,
        above=0,
    )
