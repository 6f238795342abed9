"""The last observations of an episode as one observation: memory for policies that are functions of one sample.

A partially observed CMDP needs memory. Here it is a window: the environment shows its last K observations, and a
recurrent network reads them for each sample (`jsafe.networks.encoders.GruMemory`), or a perceptron all at once (frame
stacking, Mnih et al. 2015).

The alternative is to carry a hidden state from step to step. It remembers more than K steps, but the policy is then
no function of a sample. Minibatches must be whole sequences instead of shuffled samples. A carried state is out of date
as soon as the parameters change. Conjugate gradients and line searches, which evaluate the policy many times on one
batch, would each have to replay whole episodes. With a window all of that is exact, and every algorithm accepts a
recurrent policy. The price is K times the work of the recurrent layer, K times the memory for observations, and no
memory of older steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.cmdp import Env, Spec, State
from jsafe.spaces import Box, Dict, Discrete, Space

FRAMES, IN_EPISODE = "frames", "in_episode"
"""Names of the two leaves of a stacked observation."""


def stacked_space(space: Space, length: int) -> Dict:
    """Return the space of a window of `length` observations, see `FrameStack`."""
    return Dict({FRAMES: _stacked(space, length), IN_EPISODE: Box(length, low=0.0, high=1.0, normalize=False)})


@dataclasses.dataclass(frozen=True)
class FrameStack:
    """An environment that shows its last observations.

    The observation is a dict. `frames` holds the observations of the last `length` steps, oldest first: each leaf has a
    new first axis. `in_episode` is `[length]` with 1 for each step of the present episode and 0 before its start, where
    the frames are 0. Each entry of `frames` that the environment normalises has statistics of its own, in which the
    zeros before a start count.

    Attributes:
        env: the wrapped environment; its state is `State.data`.
        length: observations in the window, the present one included.

    Raises:
        ValueError: for a length below 1.
    """

    env: Env
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"the length of a frame stack must be at least 1, got {self.length}")

    @property
    def spec(self) -> Spec:
        """The wrapped environment's, with the observation stacked."""
        inner = self.env.spec
        return dataclasses.replace(inner, observation=stacked_space(inner.observation, self.length))

    def reset(self, key: jax.Array) -> State:
        """Start with a window that holds one step."""
        inner = self.env.reset(key)
        frames = jax.tree.map(lambda leaf: jnp.zeros((self.length, *leaf.shape), leaf.dtype), inner.obs)
        return self._push(inner, {FRAMES: frames, IN_EPISODE: jnp.zeros(self.length, jnp.float32)})

    def step(self, state: State, action: jax.Array) -> State:
        """Step the environment and move the window by one."""
        return self._push(self.env.step(state.data, action), state.obs)

    def carry_over(self, done: jax.Array, after: State, fresh: State) -> State:
        """Hand over what the environment keeps between episodes; the window starts empty."""
        carry_over = getattr(self.env, "carry_over", None)
        if carry_over is None:
            return fresh
        inner = carry_over(done, after.data, fresh.data)
        frames = jax.tree.map(lambda frames, leaf: frames.at[-1].set(leaf), fresh.obs[FRAMES], inner.obs)
        return inner.replace(data=inner, obs={**fresh.obs, FRAMES: frames})

    def inner(self, state: State) -> State:
        """Return the state of the wrapped environment."""
        return state.data

    def _push(self, inner: State, window: dict[str, Any]) -> State:
        """The state that shows the environment's observation after all steps but the oldest."""
        flags = window[IN_EPISODE]
        frames = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), window[FRAMES], inner.obs)
        obs = {FRAMES: frames, IN_EPISODE: jnp.concatenate([flags[1:], jnp.ones(1, flags.dtype)])}
        return inner.replace(data=inner, obs=obs)


def window_length(space: Space) -> int:
    """Number of observations in a value of a space: that of a window, 1 for a space that is none."""
    if not isinstance(space, Dict) or set(space) != {FRAMES, IN_EPISODE}:
        return 1
    return spaces.flat_size(space[IN_EPISODE])


def frame_space(space: Space) -> Space:
    """Return the space of one observation of a window, without its bounds; another space passes unchanged."""
    if not isinstance(space, Dict) or set(space) != {FRAMES, IN_EPISODE}:
        return space
    return _without_first_axis(space[FRAMES])


def _stacked(space: Space, length: int) -> Space:
    if isinstance(space, Dict):
        return Dict({name: _stacked(inner, length) for name, inner in space.items()})
    if isinstance(space, Discrete):
        return Discrete(space.n, space.dtype, (length, *space.shape))
    low, high = np.min(space.low), np.max(space.high)
    normalize = space.normalize if space.shape else space.normalize is not False
    return Box((length, *space.shape), space.dtype, low=float(low), high=float(high), normalize=normalize)


def _without_first_axis(space: Space) -> Space:
    if isinstance(space, Dict):
        return Dict({name: _without_first_axis(inner) for name, inner in space.items()})
    if isinstance(space, Discrete):
        return Discrete(space.n, space.dtype, space.shape[1:])
    return Box(space.shape[1:], space.dtype, normalize=space.normalize if space.shape[1:] else bool(space.normalize))
