"""Model FLOPs: the arithmetic of the matrix products that a stage cannot do without, a multiply-add being two.

A pass forward costs `2N` for each token, N being the parameters outside the embedding and the norms, plus `4 T D` for
each head of each layer, T being the keys it looks at, those that the mask hides included. The gradient costs twice as
much again, so that learning costs `6N` (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Chowdhery et al. 2022, arXiv
2204.02311, appendix B). What recomputation repeats is not counted: it is a price of the program, not of the model.
"""

from __future__ import annotations

from rlhf.generation.generate import SamplingConfig
from rlhf.models.architecture import ModelConfig, parameter_count
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

LEARNING = 3
"""A pass forward and its gradient, in passes forward."""


def body(config: ModelConfig, queries: int, keys: int) -> int:
    """A pass through all layers of `queries` tokens of one text, each of which looks at `keys` of them."""
    layers = parameter_count(config)["layers"] - 2 * config.num_layers * config.hidden_size  # without the norms
    return 2 * layers * queries + 4 * config.num_layers * config.num_heads * config.head_dim * queries * keys


def language(config: ModelConfig, rows: int, length: int) -> int:
    """Logits of every token of texts `[B, L]`."""
    return rows * (body(config, length, length) + 2 * config.vocab_size * config.hidden_size * length)


def scores(config: ModelConfig, rows: int, length: int, size: int = 1) -> int:
    """`size` scores of every token of texts `[B, L]`."""
    return rows * (body(config, length, length) + 2 * size * config.hidden_size * length)


def generation(config: ModelConfig, rows: int, prompt_length: int, new: int) -> int:
    """Answers of `new` tokens to prompts `[B, S]`, with a cache of S + new slots; every token looks at all of it."""
    slots = prompt_length + new
    head = 2 * config.vocab_size * config.hidden_size
    return rows * (body(config, prompt_length, slots) + head + new * (body(config, 1, slots) + head))


def reinforcement(
    config: ModelConfig,
    judges: int,
    options: ReinforcementConfig,
    prompt_length: int,
    sampling: SamplingConfig,
    limits: int,
) -> int:
    """One iteration of reinforcement, all models of one size, answers of full length.

    Answers are drawn; the acting policy and the reference read them, and each judge and each critic; then actor and
    critics learn from them in each pass. A group-relative method has no critics, and reads the reference again.

    Args:
        config: of every model.
        judges: reward and cost models.
        options: of the method.
        prompt_length: of the prompts.
        sampling: of answers.
        limits: costs with a limit, each with a critic.
    """
    answers = options.prompts_per_iteration * options.answers_per_prompt
    length = prompt_length + sampling.max_new_tokens
    drawn = generation(config, answers, prompt_length, sampling.max_new_tokens)
    actor, judge = language(config, answers, length), scores(config, answers, length)
    if options.estimator == "group":
        return drawn + 2 * actor + judges * judge + options.update_iterations * (LEARNING + 1) * actor
    critics = 1 + limits
    learned = LEARNING * (actor + critics * judge)
    return drawn + 2 * actor + (judges + critics) * judge + options.update_iterations * learned
