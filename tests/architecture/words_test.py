"""Names and docstrings keep to the field's terms."""

import importlib
import inspect

from tests.architecture import words
from tests.architecture.imports import modules

MOST_PARTICIPLES = 59


def test_names_say_what_a_thing_is_and_not_what_was_done_to_it():
    counts = words.participles()
    assert counts.total() <= MOST_PARTICIPLES, counts.most_common(10)


def test_no_docstring_opens_like_a_question():
    assert words.question_docstrings() == []


def test_arrays_of_losses_and_of_the_step_have_their_shapes_in_their_types():
    assert words.shapeless() == []


def test_every_public_method_has_a_docstring_or_its_base_has():
    for name in modules("losses", "models", "runner"):
        for value in vars(importlib.import_module(name)).values():
            ours = inspect.isclass(value) and value.__module__ == name
            if not ours or value.__name__.startswith("_"):
                continue
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    documented = inspect.getdoc(getattr(value, method))
                    assert documented, f"{name}.{value.__name__}.{method}"
