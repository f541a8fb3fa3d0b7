"""Templates of the constructs that published ones are made of."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Marks for a turn of two, no prompt for a reply, a reply that is stripped.
INST = """{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0]['content'] + '\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('roles must alternate') -}}
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {{- '[INST] ' ~ (system if loop.first and system is defined else '') -}}
        {{- message.content ~ ' [/INST]' -}}
    {%- else -%}
        {{- ' ' ~ message.content | trim ~ eos_token -}}
    {%- endif -%}
{%- endfor -%}
"""

# Thoughts of earlier turns are left out; a prompt opens one.
THINKING = """
{%- set ns = namespace(last=-1) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- macro turn(role, text) -%}
{{- '<|im_start|>' + role + '\\n' + text + '<|im_end|>\\n' -}}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') -%}
        {%- set thought = '' -%}
        {%- if '</think>' in message.content -%}
            {%- set thought = message.content.split('</think>')[0].split('<think>')[-1]
            -%}
        {%- endif -%}
        {%- if loop.index0 > ns.last -%}
            {{- turn('assistant', '<think>' + thought + '</think>\\n' + content) -}}
        {%- else -%}
            {{- turn('assistant', content) -}}
        {%- endif -%}
    {%- else -%}
        {{- turn(message.role, message.content) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is not defined or enable_thinking -%}
        {{- '<think>' -}}
    {%- endif -%}
{%- endif -%}
"""

MARKED = """\
{% for message in messages %}
    {% if message.role == 'assistant' %}
<|assistant|>
        {% generation %}
{{ message.content }}<|end|>
        {% endgeneration %}
    {% else %}
<|{{ message.role }}|>
{{ message.content }}<|end|>
    {% endif %}
{% endfor %}
"""

# Tools as JSON, calls of them, and what they answer; dates; loop controls.
TOOLS = """
{%- if tools is not none -%}
    {{- '<|im_start|>system\\nToday: ' + strftime_now('%d %b %Y') + '\\n' -}}
    {%- for tool in tools -%}{{- tool | tojson + '\\n' -}}{%- endfor -%}
    {{- tools | tojson(indent=2) + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.content is string -%}{{- message.content -}}{%- endif -%}
    {%- for call in message.tool_calls -%}
        {%- set call = call.function -%}
        {{- '<call>{"name": "' ~ call.name ~ '", "arguments": ' -}}
        {{- call.arguments | tojson ~ '}</call>' -}}
        {%- if not loop.last -%}{{- ', ' -}}{%- endif -%}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
    {%- for key, value in message.items() if key == 'name' -%}
        {{- key ~ '=' ~ value ~ ' ' ~ loop.length ~ '\\n' -}}
    {%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

TEMPLATES = {
    "chatml": CHATML,
    "inst": INST,
    "thinking": THINKING,
    "marked": MARKED,
    "tools": TOOLS,
}
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}


def said(*contents, **more):
    """Messages of user and assistant by turns."""
    roles = ["user", "assistant"] * len(contents)
    turns = zip(roles, contents, strict=False)
    return [{"role": role, "content": content, **more} for role, content in turns]


WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"é": '<b> & "c"', "x": [1, None]}},
}
CALL = {"function": {"name": "weather", "arguments": {"city": "Zürich"}}}
CONVERSATIONS = {
    "one": {"messages": said("Hi <b>", "Hello 🙂 é")},
    "two": {"messages": said("a", " b ", "c", "d\n\n")},
    "system": {
        "messages": [{"role": "system", "content": "Be brief."}, *said("Hi", "Yes")]
    },
    "thoughts": {
        "messages": said("a", "<think>x</think>\nb", "c", "<think>y</think>d")
    },
    "tools": {
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
            {"role": "tool", "name": "weather", "content": "sun"},
            {"role": "assistant", "content": "Sun."},
        ],
        "tools": [WEATHER],
    },
    "wrong": {"messages": said("a", "b")[::-1]},
    "prompt": {"messages": said("a", "b", "c"), "prompt": True},
}
