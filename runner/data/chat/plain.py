"""A chat template for tokenizers that have none: plain names of roles."""

PLAIN = """\
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{- 'Assistant:' -}}
    {%- generation -%}
      {{- ' ' + message.content + eos_token -}}
    {%- endgeneration -%}
    {{- '\\n' -}}
  {%- else -%}
    {{- message.role | capitalize + ': ' + message.content + '\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- 'Assistant:' -}}
{%- endif -%}
"""
