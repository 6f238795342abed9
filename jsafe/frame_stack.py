"""The last observations of an episode as one observation: memory for policies that are functions of one sample.

A task whose observation does not determine the state (a partially observed CMDP) needs memory. Here it is a
window: the environment shows its last K observations, and a recurrent network reads them afresh for each sample
(`jsafe.networks.encoders.Recurrent`), or a perceptron all at once (frame stacking, Mnih et al. 2015).

The alternative is to carry a hidden state from step to step. It remembers more than K steps, but the policy is then
no function of a sample: minibatches must be whole sequences instead of shuffled samples, a state that was carried is
out of date as soon as the parameters change, and conjugate gradients and line searches, which evaluate the policy
again and again at one batch, would each have to replay whole episodes. With a window all of that is exact and every
algorithm takes a recurrent policy as it takes any other. The price is K times the work of the recurrent layer, K times
the memory for observations, and nothing that is older than K steps.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jsafe.cmdp import Env, Spec, State


def pack(steps: jax.Array, flags: jax.Array, fixed_scale: int) -> jax.Array:
    """Lay a window out flat: the entries to normalise of all steps, then the `fixed_scale` ones, then the flags.

    Args:
        steps: `[..., K, O]`, oldest first.
        flags: `[..., K]`, 1 where a step belongs to the present episode, else 0.
        fixed_scale: entries at the end of each step's observation that are not normalised.

    Returns:
        `[..., K * (O + 1)]`.
    """
    batch, scaled = steps.shape[:-2], steps.shape[-1] - fixed_scale
    return jnp.concatenate(
        [steps[..., :scaled].reshape(*batch, -1), steps[..., scaled:].reshape(*batch, -1), flags], axis=-1
    )


def unpack(obs: jax.Array, length: int, fixed_scale: int) -> tuple[jax.Array, jax.Array]:
    """Undo `pack`: `[..., K * (O + 1)] -> ([..., K, O], [..., K])`, for a window of `length` K."""
    batch, scaled = obs.shape[:-1], obs.shape[-1] // length - 1 - fixed_scale
    first, second = length * scaled, length * (scaled + fixed_scale)
    steps = [obs[..., :first].reshape(*batch, length, scaled), obs[..., first:second].reshape(*batch, length, -1)]
    return jnp.concatenate(steps, axis=-1) if fixed_scale else steps[0], obs[..., second:]


@dataclasses.dataclass(frozen=True)
class History:
    """An environment that shows its last observations.

    The observation holds `length` steps, oldest first, and for each a flag that is 1 if the step belongs to the present
    episode; before the start of the episode observation and flag are 0. `pack` defines the order. Flags are not
    normalised (`Spec.fixed_scale`). Each of the other entries is, by statistics of its own, in which the zeros before a
    start count.

    Attributes:
        env: the environment behind it; its state is `State.data`.
        length: observations in the window, the present one included.

    Raises:
        ValueError: for a length below 1.
    """

    env: Env
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"the length of a history must be at least 1, got {self.length}")

    @property
    def spec(self) -> Spec:
        """That of the environment, with the observation enlarged."""
        inner = self.env.spec
        blocks = {
            "history": self.length * (inner.observation_size - inner.fixed_scale),
            "history_fixed_scale": self.length * inner.fixed_scale,
            "in_episode": self.length,
        }
        return dataclasses.replace(
            inner,
            observation_size=self.length * (inner.observation_size + 1),
            observation_layout=tuple((name, size) for name, size in blocks.items() if size),
            fixed_scale=self.length * (inner.fixed_scale + 1),
        )

    def reset(self, key: jax.Array) -> State:
        """Start with a window that holds one step."""
        inner = self.env.reset(key)
        steps = jnp.zeros((self.length, *inner.obs.shape), inner.obs.dtype)
        return self._show(inner, steps, jnp.zeros(self.length, inner.obs.dtype))

    def step(self, state: State, action: jax.Array) -> State:
        """Step the environment and move the window by one."""
        steps, flags = unpack(state.obs, self.length, self.env.spec.fixed_scale)
        return self._show(self.env.step(state.data, action), steps, flags)

    def carry_over(self, done: jax.Array, after: State, fresh: State) -> State:
        """Carry over the state that outlives an episode in the environment; the window does not."""
        carry_over = getattr(self.env, "carry_over", None)
        if carry_over is None:
            return fresh
        inner = carry_over(done, after.data, fresh.data)
        steps, flags = unpack(fresh.obs, self.length, self.env.spec.fixed_scale)
        return inner.replace(data=inner, obs=pack(steps.at[-1].set(inner.obs), flags, self.env.spec.fixed_scale))

    def inner(self, state: State) -> State:
        """The state of the environment behind."""
        return state.data

    def _show(self, inner: State, steps: jax.Array, flags: jax.Array) -> State:
        """The state that shows the environment's observation after all steps but the oldest."""
        steps = jnp.concatenate([steps[1:], inner.obs[None]])
        flags = jnp.concatenate([flags[1:], jnp.ones(1, flags.dtype)])
        return inner.replace(data=inner, obs=pack(steps, flags, self.env.spec.fixed_scale))
