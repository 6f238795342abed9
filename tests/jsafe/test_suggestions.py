"""Suggestions in error messages."""

import pytest

from jsafe.suggestions import check_choice, did_you_mean, nearest

PLANETS = ("Mercury", "Venus", "Earth")


def test_nearest_choice_ignores_case_and_is_none_when_nothing_is_similar():
    assert nearest("mercuri", PLANETS) == "Mercury"
    assert nearest("EARTH", PLANETS) == "Earth"
    assert nearest("xyz", PLANETS) is None


def test_suggestion_ends_a_message_or_is_empty():
    assert did_you_mean("venu", PLANETS) == "; did you mean 'Venus'?"
    assert did_you_mean("xyz", PLANETS) == ""


def test_unknown_choice_is_refused_with_all_choices_and_the_nearest():
    assert check_choice("planet", "Venus", PLANETS) == "Venus"
    with pytest.raises(ValueError, match=r"unknown planet 'Venis', expected one of \['Earth', .*did you mean 'Venus'"):
        check_choice("planet", "Venis", PLANETS)
