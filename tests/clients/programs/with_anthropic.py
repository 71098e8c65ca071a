"""Anthropic's own client."""

from anthropic import Anthropic, BadRequestError
from shared import CITY, KEY, MODEL, QUESTION, URL, run

client = Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0)
ASK = {"model": MODEL, "max_tokens": 300, "messages": [{"role": "user", "content": QUESTION}]}
TOOL = {"name": "city", "description": "Records a city.", "input_schema": CITY}
MUST = {"type": "tool", "name": "city"}


def chat():
    return client.messages.create(**ASK).content[0].text


def stream():
    with client.messages.stream(**ASK) as events:
        pieces = list(events.text_stream)
        assert events.get_final_message().content[0].text == "".join(pieces)
    return pieces


def events():
    told = client.messages.create(**ASK, stream=True)
    return [each.delta.text for each in told if each.type == "content_block_delta"]


def tool():
    message = client.messages.create(**ASK, tools=[TOOL], tool_choice=MUST)
    assert message.stop_reason == "tool_use"
    return message.content[0].input


def tool_stream():
    with client.messages.stream(**ASK, tools=[TOOL], tool_choice=MUST) as events:
        message = events.get_final_message()
    assert message.stop_reason == "tool_use"
    return message.content[0].input


def round_trip():
    message = client.messages.create(**ASK, tools=[TOOL], tool_choice=MUST)
    result = {"type": "tool_result", "tool_use_id": message.content[0].id, "content": "kept"}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    asked = {**ASK, "messages": turns, "tools": [TOOL], "tool_choice": {"type": "none"}}
    return client.messages.create(**asked).content[0].text


def json_schema():
    form = {"format": {"type": "json_schema", "schema": CITY}}
    return client.messages.create(**ASK, output_config=form).content[0].text


def counted():
    body = {key: value for key, value in ASK.items() if key != "max_tokens"}
    return client.messages.count_tokens(**body, tools=[TOOL]).input_tokens


def speakers():
    return [patch["name"] for patch in client.messages.create(**ASK).taketurns["patches"]]


def refused():
    try:
        client.messages.create(**ASK, tools=[TOOL], tool_choice={"type": "tool", "name": "x"})
    except BadRequestError as error:
        return error.body["error"]


run(
    chat=chat,
    stream=stream,
    events=events,
    tool=tool,
    tool_stream=tool_stream,
    round_trip=round_trip,
    json_schema=json_schema,
    counted=counted,
    speakers=speakers,
    refused=refused,
)
