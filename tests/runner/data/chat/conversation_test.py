import json

import pytest

from runner.data.chat import conversation
from runner.data.documents.records import Record
from runner.errors import UserError
from tests.runner.data.chat.templates import said


def read(**values):
    return conversation.read(Record("a.jsonl:7", "chats/a.jsonl:7", values))


def test_the_usual_forms_are_one_conversation():
    messages = said("Hi", "Hello")
    forms = [
        {"messages": messages},
        {"messages": json.dumps(messages)},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": messages[:1], "completion": messages[1:]},
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
            ]
        },
    ]
    assert len({read(**form).content() for form in forms}) == 1
    assert read(**forms[0]).learned == {1}


def test_keys_that_a_table_fills_up_are_no_keys():
    call = {"function": {"name": "f", "arguments": {"x": 1, "y": None}}}
    messages = [
        {"role": "user", "content": "Hi", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    assert read(messages=messages, prompt=None).messages == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
        },
    ]


def test_the_first_messages_keep_their_learned_replies():
    both = read(messages=said("a", "b", "c", "d"))
    assert both.first(2).learned == {1}
    assert [message["content"] for message in both.first(2).messages] == ["a", "b"]


def test_what_it_says_and_what_is_learned_is_its_content():
    contents = {
        read(messages=said("a", "b")).content(),
        read(messages=said("a", "b"), tools=[{}]).content(),
        read(messages=said("a", "c")).content(),
        read(messages=said("a", "b", weight=0)).content(),
        read(prompt=said("a", "b", "c"), completion=said("", "d")[1:]).content(),
        read(messages=said("a", "b", "c", "d")).content(),
    }
    assert len(contents) == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mesages": []},
            "no messages, or prompt and completion, or conversations; did you mean "
            "'mesages'?",
        ),
        ({"prompt": "a"}, "no messages, or prompt and completion"),
        ({"messages": []}, "'messages' must be a list of messages, got an empty list"),
        ({"messages": {}}, "'messages' must be a list of messages, got dict"),
        ({"messages": "Hi"}, "a string that is no JSON"),
        (
            {"messages": [{"rol": "user", "content": "a"}]},
            "message 1 of 'messages' is no object with a 'role'; did you mean 'rol'?",
        ),
        ({"messages": ["a"]}, "message 1 of 'messages' is no object with a 'role'"),
        (
            {"messages": [{"role": "user", "contents": "a"}]},
            "message 1 of 'messages' has no 'content'; did you mean 'contents'?",
        ),
        (
            {"messages": said("a", "\ud800")},
            "message 2 of 'messages' holds half a surrogate pair",
        ),
        ({"conversations": ["a"]}, "message 1 of 'conversations' is no object"),
    ],
)
def test_another_form_is_named_with_its_place(values, message):
    with pytest.raises(UserError) as error:
        read(**values)
    assert str(error.value).startswith(f"chats/a.jsonl:7: {message}")
    assert len(str(error.value).splitlines()) == 1
