"""Model FLOPs: arithmetic of the necessary matrix products of a stage; a multiply-add counts as two.

A forward pass costs `2N` per token, with N the parameters outside the embedding and the norms, plus `4 T D` for each
head of each layer, with T its keys, masked keys included. The backward pass costs twice as much, so training costs `6N`
(Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Chowdhery et al. 2022, arXiv 2204.02311, appendix B). Recomputation
is not counted: it is a cost of the program, not of the model.
"""

from __future__ import annotations

from rlhf.config import SamplingConfig
from rlhf.models.architecture import ModelConfig, parameter_count
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig

LEARNING = 3
"""Cost of a forward and a backward pass, in forward passes."""


def body(config: ModelConfig, queries: int, keys: int) -> int:
    """FLOPs of all layers for `queries` tokens of one text, each with `keys` keys."""
    layers = parameter_count(config)["layers"] - 2 * config.num_layers * config.hidden_size  # without the norms
    return 2 * layers * queries + 4 * config.num_layers * config.num_heads * config.head_dim * queries * keys


def language(config: ModelConfig, rows: int, length: int) -> int:
    """FLOPs of the logits of every token of texts `[B, L]`."""
    return rows * (body(config, length, length) + 2 * config.vocab_size * config.hidden_size * length)


def scores(config: ModelConfig, rows: int, length: int, size: int = 1) -> int:
    """FLOPs of `size` scores of every token of texts `[B, L]`."""
    return rows * (body(config, length, length) + 2 * size * config.hidden_size * length)


def generation(config: ModelConfig, rows: int, prompt_length: int, new: int) -> int:
    """FLOPs of answers of `new` tokens to prompts `[B, S]`; every token attends to a cache of S + new slots."""
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
    """FLOPs of one iteration of reinforcement, for models of one size and answers of full length.

    Answers are sampled, then evaluated by the acting policy, the reference, each judge and each critic; actor and
    critics are updated in each pass. A group-relative method has no critics, and evaluates the reference again.

    Args:
        config: configuration of every model.
        judges: number of reward and cost models.
        options: hyper-parameters of the method.
        prompt_length: length of the prompts.
        sampling: sampling options.
        limits: number of costs with a limit, each with a critic.
    """
    answers = options.prompts_per_iteration * options.answers_per_prompt
    length = prompt_length + sampling.max_new_tokens
    sampled = generation(config, answers, prompt_length, sampling.max_new_tokens)
    actor, judge = language(config, answers, length), scores(config, answers, length)
    if options.estimator == "group":
        return sampled + 2 * actor + judges * judge + options.update_iterations * (LEARNING + 1) * actor
    critics = 1 + limits
    trained = LEARNING * (actor + critics * judge)
    return sampled + 2 * actor + (judges + critics) * judge + options.update_iterations * trained
