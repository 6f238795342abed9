"""Description of a policy network that a run records: the name of its builder and the keyword arguments."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsafe import frame_stack, space_records, spaces
from jsafe.spaces import Space

if TYPE_CHECKING:
    from jsafe.networks.mlp import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """Description of a policy from which it is rebuilt without the code that trained it.

    Attributes:
        observation: space of the observations.
        action: space of the actions.
        network: name of a builder in `jsafe.networks.actor_critic.BUILDERS`.
        kwargs: keyword arguments of the builder, which must be JSON; tuples become lists.
        normalize_observations: True if `TrainState.algo.normalizer` holds statistics to apply first.
        observation_clip: bound on the absolute value of a normalised observation.
    """

    observation: Space
    action: Space
    network: str = "encoder_mlp"
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    normalize_observations: bool = True
    observation_clip: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", spaces.as_space(self.observation))
        object.__setattr__(self, "action", spaces.as_space(self.action))
        try:
            kwargs = json.loads(json.dumps(dict(self.kwargs)))
        except TypeError as error:
            raise ValueError(f"kwargs of a PolicySpec must be JSON, got {self.kwargs!r}") from error
        object.__setattr__(self, "kwargs", kwargs)

    @property
    def history(self) -> int:
        """Number of observations that the policy sees at once (`jsafe.frame_stack`)."""
        return frame_stack.window_length(self.observation)

    def build(self) -> Network:
        """Build the policy network.

        Raises:
            ValueError: for an unknown builder, or arguments that it does not accept.
        """
        from jsafe.networks import actor_critic  # flax and the networks: only when a policy is built

        return actor_critic.build(self.network, self.observation, self.action, self.kwargs)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return {
            "network": self.network,
            "kwargs": dict(self.kwargs),
            "observation": space_records.to_json(self.observation),
            "action": space_records.to_json(self.action),
            "normalize_observations": self.normalize_observations,
            "observation_clip": self.observation_clip,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PolicySpec:
        """Undo `to_json`.

        Raises:
            ValueError: for something that is not its result, such as the record of an older version.
        """
        if not {"network", "kwargs", "observation", "action"} <= set(stored):
            raise ValueError("the recorded policy was written by another version of jsafe and cannot be rebuilt")
        fields = {**stored, "observation": space_records.from_json(stored["observation"])}
        return cls(**{**fields, "action": space_records.from_json(stored["action"])})
