"""The methods as their papers write them; what is not listed is the default of an option."""

_PLAIN_ASCENT = {
    "multiplier_max": 2.0,
    "multiplier_optimizer": "sgd",
    "multiplier_learning_rate": 0.01,
    "multiplier_init": 0.0,
}

PRESETS = {
    "focops": _PLAIN_ASCENT,
    "cup": _PLAIN_ASCENT,
}
