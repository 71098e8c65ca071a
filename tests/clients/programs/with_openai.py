"""OpenAI's own client."""

from city import City
from openai import OpenAI
from shared import CITY, KEY, MODEL, QUESTION, URL, run

client = OpenAI(base_url=URL, api_key=KEY)
ASK = [{"role": "user", "content": QUESTION}]


def chat():
    completion = client.chat.completions.create(model=MODEL, messages=ASK)
    return completion.choices[0].message.content


def stream():
    chunks = client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def events():
    with client.chat.completions.stream(model=MODEL, messages=ASK) as events:
        return [event.delta for event in events if event.type == "content.delta"]


def parse():
    completion = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=City)
    return completion.choices[0].message.parsed.model_dump()


def json_schema():
    schema = {"name": "city", "strict": True, "schema": CITY}
    form = {"type": "json_schema", "json_schema": schema}
    completion = client.chat.completions.create(model=MODEL, messages=ASK, response_format=form)
    return completion.choices[0].message.content


def json_object():
    ask = [{"role": "user", "content": f"{QUESTION} Answer in JSON."}]
    form = {"type": "json_object"}
    completion = client.chat.completions.create(model=MODEL, messages=ask, response_format=form)
    return completion.choices[0].message.content


def completions():
    return client.completions.create(model=MODEL, prompt=QUESTION).choices[0].text


def last_chunk():
    """The answer, and what the last chunk with a choice says beside the API."""
    chunks = [*client.chat.completions.create(model=MODEL, messages=ASK, stream=True, seed=7)]
    last = [chunk for chunk in chunks if chunk.choices][-1]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return {"text": text, "chunk": last.model_extra, "choice": last.choices[0].model_extra}


def tools():
    function = {"name": "describe", "parameters": CITY}
    tool = {"type": "function", "function": function}
    completion = client.chat.completions.create(
        model=MODEL, messages=ASK, tools=[tool], tool_choice="required"
    )
    return completion.choices[0].message.tool_calls[0].function.arguments


def responses():
    return client.responses.create(model=MODEL, input=QUESTION).output_text


run(
    chat=chat,
    stream=stream,
    events=events,
    parse=parse,
    json_schema=json_schema,
    json_object=json_object,
    completions=completions,
    last_chunk=last_chunk,
    tools=tools,
    responses=responses,
)
