import json
from pathlib import Path

import pytest

from runner.data.chat.plain import PLAIN
from runner.data.chat.template import ChatTemplate, Refused
from runner.errors import UserError
from tests.runner.data.chat.templates import (
    CONVERSATIONS,
    TEMPLATES,
    VARIABLES,
    said,
)

# Written by tests/parity/chat_templates.py; `make tokenizers` compares them anew.
KEPT = json.loads(Path(__file__).with_name("rendered.json").read_text())


def template(source, date="2024-07-26", **variables):
    return ChatTemplate(source, variables=variables, date=date, place="chat.jinja")


def rendered(source, messages, **variables):
    return template(source, **variables).render(messages).text


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("case", CONVERSATIONS)
def test_it_is_rendered_as_transformers_does(name, case):
    conversation = CONVERSATIONS[case]
    compiled = template(TEMPLATES[name], **VARIABLES)
    expected = KEPT["rendered"][f"{name}/{case}"]
    if expected is None:
        with pytest.raises(Refused):
            compiled.render(conversation["messages"])
        return
    rendering = compiled.render(
        conversation["messages"],
        tools=conversation.get("tools"),
        prompt=conversation.get("prompt", False),
    )
    text, spans = expected
    assert rendering.text == text
    assert [list(span) for span in rendering.replies] == spans


def test_variables_reach_the_template():
    plain = template(TEMPLATES["thinking"])
    off = template(TEMPLATES["thinking"], enable_thinking=False)
    assert plain.render(said("a"), prompt=True).text.endswith("<think>")
    assert off.render(said("a"), prompt=True).text.endswith("assistant\n")
    assert plain.digest != off.digest


def test_the_day_is_the_one_that_is_given():
    source = "{{ strftime_now('%d %b %Y') }}"
    assert rendered(source, []) == "26 Jul 2024"
    assert template(source, date="2026-02-03").render([]).text == "03 Feb 2026"
    with pytest.raises(UserError, match=r"^date must be like 2024-07-26, got 'today'$"):
        template(source, date="today")


def test_the_plain_template_marks_replies():
    rendering = template(PLAIN, eos_token="<end>").render(said("Hi", "Hello", "Bye"))
    assert rendering.text == "User: Hi\nAssistant: Hello<end>\nUser: Bye\n"
    (span,) = rendering.replies
    assert rendering.text[slice(*span)] == " Hello<end>"


def test_what_is_no_template_is_named_with_its_line():
    with pytest.raises(UserError) as error:
        template("{{ 'a' }}\n{% if %}")
    assert str(error.value).startswith("chat.jinja is no chat template: line 2: ")
    assert len(str(error.value).splitlines()) == 1


LONG = "{% set ns = namespace(x='a' * 1000) %}{% for i in range(99) %}"
HOSTILE = {
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a method": "{{ messages.append(1) }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "files": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}",
    "a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "a loop over text": "{% set x = 'a' * 9999 %}{% for a in x %}{% for b in x %}"
    "{% endfor %}{% endfor %}",
    "a recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "a product": "{{ 'a' * 10 ** 12 }}",
    "a product of lists": "{{ [0] * 10 ** 12 }}",
    "a power": "{{ 9 ** 999999999 }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "a width": "{{ 'a'.ljust(10 ** 12) }}",
    "doubling": LONG + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "joining": LONG + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "output": "{% for i in range(20000) %}{{ 'a' * 1000 }}{% endfor %}",
    "a list": "{% for i in range(99999) %}{{ [0] * 99999 }}{% endfor %}",
    "undefined": "{{ messages[9].content.text }}",
    "a type": "{{ messages + 1 }}",
    "its own": "{{ raise_exception('roles\nmust   alternate') }}",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_template_is_refused_in_one_line(case):
    with pytest.raises(Refused) as error:
        rendered(HOSTILE[case], said("a", "b"))
    assert str(error.value) and len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) <= 300


def test_a_refusal_is_the_templates_own_words():
    with pytest.raises(Refused, match=r"^roles must alternate$"):
        rendered(HOSTILE["its own"], said("a"))
