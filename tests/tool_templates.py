"""Chat templates that write calls of tools, each in the way of a family of models."""

CHATML = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HERMES = CHATML.replace(
    "CALL",
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments | tojson }}}\n</tool_call>",
)
LLAMA = CHATML.replace(
    "CALL",
    '{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}',
)
MISTRAL = CHATML.replace(
    "CALL",
    "{% if call.id | length != 9 %}{{ raise_exception('9 letters!') }}{% endif %}"
    '[TOOL_CALLS][{"name": "{{ call.function.name }}", "arguments": '
    '{{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}]',
)
PYTHON = CHATML.replace(
    "CALL",
    "[{{ call.function.name }}({% for k, v in call.function.arguments.items() %}{{ k }}="
    "{{ v | tojson }}{% endfor %})]",
)
AS_TEXT = CHATML.replace(
    "CALL",
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' + '
    "call.function.arguments + '}</tool_call>' }}",
)
XML = CHATML.replace("CALL", "<call {{ call.function.name }} {{ call.function.arguments }}/>")
NO_RESULTS = HERMES.replace(
    "{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}"
)
NO_TOOLS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
