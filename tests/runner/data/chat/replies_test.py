import pytest

from runner.data.chat import conversation, replies
from runner.data.chat.template import ChatTemplate, Refused
from runner.data.documents.records import Record
from tests.runner.data.chat.templates import (
    CONVERSATIONS,
    TEMPLATES,
    VARIABLES,
    said,
)

ENDS = replies.ends(["<|im_start|>", "<|im_end|>", "<|end|>", "<|user|>", "</s>"])


def of(source, record):
    """The text of each learned reply."""
    chat = conversation.read(Record("a", "a:1", record))
    template = ChatTemplate(
        source, variables=VARIABLES, date="2024-07-26", place="chat.jinja"
    )
    text = template.render(chat.messages, tools=chat.tools)
    spans = replies.spans(template, chat, text, ENDS)
    return [text.text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("name", "case", "expected"),
    [
        ("chatml", "one", ["Hello 🙂 é<|im_end|>"]),
        ("chatml", "two", [" b <|im_end|>", "d\n\n<|im_end|>"]),
        ("inst", "two", [" b</s>", " d</s>"]),  # no prompt: the space is written too
        ("inst", "system", [" Yes</s>"]),
        # The thought of an earlier turn is not in the text; that of the last is.
        ("thinking", "thoughts", ["b<|im_end|>", "y</think>\nd<|im_end|>"]),
        ("thinking", "one", ["</think>\nHello 🙂 é<|im_end|>"]),
        ("marked", "two", [" b <|end|>\n", "d\n\n<|end|>\n"]),
        (
            "tools",
            "tools",
            [
                '<call>{"name": "weather", "arguments": {"city": "Zürich"}}</call>, '
                '<call>{"name": "weather", "arguments": {"city": "Zürich"}}</call>'
                "<|im_end|>",
                "Sun.<|im_end|>",
            ],
        ),
    ],
)
def test_a_reply_is_what_follows_the_prompt_to_the_end_of_its_turn(
    name, case, expected
):
    assert of(TEMPLATES[name], CONVERSATIONS[case]) == expected


@pytest.mark.parametrize("mark", ["marked", "chatml"])
def test_only_the_completion_and_what_has_weight_is_learned(mark):
    end = "<|end|>\n" if mark == "marked" else "<|im_end|>"
    record = {"prompt": said("a", "b", "c"), "completion": said("", "d")[1:]}
    assert of(TEMPLATES[mark], record) == [f"d{end}"]
    messages = said("a", "b", "c", "d")
    messages[3]["weight"] = 0
    assert of(TEMPLATES[mark], {"messages": messages}) == [f"b{end}"]


def test_without_a_token_at_its_end_a_turn_ends_with_its_content_or_the_next():
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    record = {"messages": said("a", "b", "c", "d")}
    assert of(source, record) == ["<|assistant|>b\n<|user|>", "<|assistant|>d"]
    prompted = source + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    assert of(prompted, record) == ["b\n<|user|>", "d"]


def test_an_answer_of_a_tool_is_never_learned():
    """A call and its answer in one turn, which ends only without a call."""
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}<r>{{ m.content }}</r>"
        "{% else %}<|{{ m.role }}|>{{ m.content }}"
        "{% for c in m.tool_calls %}<c>{{ c.function.name }}</c>{% endfor %}"
        "{% if not m.tool_calls %}<|end|>{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    with pytest.raises(Refused, match=r"put \{% generation %\}"):
        of(source, CONVERSATIONS["tools"])


def test_a_template_that_hides_a_reply_is_refused():
    source = "{% for m in messages %}{{ m.content | length }}{% endfor %}"
    with pytest.raises(Refused, match="cannot be told where it writes message 2"):
        of(source, {"messages": said("a", "b")})
