"""The classes of things in an arena. A new one is a subclass of `Objects` and its entry in `CLASSES`."""

from envs_mjx.navigation.objects.free import PushBox, Vases
from envs_mjx.navigation.objects.geoms import Circle, Goal, Hazards, Sigwalls
from envs_mjx.navigation.objects.mocap import Buttons, ButtonsState, Gremlins, Pillars
from envs_mjx.navigation.objects.object_class import ObjectContacts, Objects, Rectangle

CLASSES: dict[str, type[Objects]] = {
    c.__name__: c for c in (Goal, Hazards, Circle, Sigwalls, Buttons, Pillars, Vases, PushBox, Gremlins)
}
"""Classes by the name that overrides use."""

__all__ = [
    "CLASSES",
    "Buttons",
    "ButtonsState",
    "Circle",
    "Goal",
    "Gremlins",
    "Hazards",
    "ObjectContacts",
    "Objects",
    "Pillars",
    "PushBox",
    "Rectangle",
    "Sigwalls",
    "Vases",
]
