"""OpenAI's own client, by the Responses API, and with tools in chat completions."""

import json

from city import City
from openai import OpenAI, pydantic_function_tool
from shared import CITY, KEY, MODEL, QUESTION, URL, run

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
ASK = {"model": MODEL, "input": QUESTION, "max_output_tokens": 300}
TOOL = {"type": "function", "name": "city", "parameters": CITY, "strict": True}
MUST = {"type": "function", "name": "city"}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
CHAT_MUST = {"type": "function", "function": {"name": "City"}}


def text():
    return client.responses.create(**ASK).output_text


def stream():
    with client.responses.stream(**ASK) as events:
        pieces = [each.delta for each in events if each.type == "response.output_text.delta"]
        assert events.get_final_response().output_text == "".join(pieces)
    return pieces


def parse():
    return client.responses.parse(**ASK, text_format=City).output_parsed.model_dump()


def tool():
    (call,) = client.responses.create(**ASK, tools=[TOOL], tool_choice=MUST).output
    return call.arguments


def tool_stream():
    with client.responses.stream(**ASK, tools=[TOOL], tool_choice=MUST) as events:
        kinds = [each.type for each in events]
        (call,) = events.get_final_response().output
    assert "response.function_call_arguments.delta" in kinds
    return call.arguments


def conversation():
    first = client.responses.create(**ASK, tools=[TOOL], tool_choice=MUST)
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "kept"}
    more = {**ASK, "input": [output], "previous_response_id": first.id, "tool_choice": "none"}
    second = client.responses.create(**more, tools=[TOOL])
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(second.id)
    return second.output_text


def chat_tool():
    tools = [pydantic_function_tool(City)]
    answer = client.chat.completions.parse(**CHAT, tools=tools, tool_choice=CHAT_MUST).choices[0]
    (call,) = answer.message.tool_calls
    assert isinstance(call.function.parsed_arguments, City)
    return call.function.arguments


def chat_tool_stream():
    tools = [pydantic_function_tool(City)]
    with client.chat.completions.stream(**CHAT, tools=tools, tool_choice=CHAT_MUST) as events:
        kinds = [each.type for each in events]
        answer = events.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    return json.dumps(answer.message.tool_calls[0].function.parsed_arguments.model_dump())


run(
    text=text,
    stream=stream,
    parse=parse,
    tool=tool,
    tool_stream=tool_stream,
    conversation=conversation,
    chat_tool=chat_tool,
    chat_tool_stream=chat_tool_stream,
)
