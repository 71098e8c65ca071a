"""instructor, in its default mode, which needs tools, and in those that do not."""

import instructor
from city import City
from openai import OpenAI
from shared import KEY, MODEL, QUESTION, URL, run

ASK = [{"role": "user", "content": QUESTION}]


def client(mode):
    return instructor.from_openai(OpenAI(base_url=URL, api_key=KEY), mode=mode)


def in_mode(mode):
    def ask():
        create = client(mode).chat.completions.create
        return create(model=MODEL, messages=ASK, response_model=City).model_dump()

    return ask


def stream():
    partial = client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial
    parts = partial(model=MODEL, messages=ASK, response_model=City)
    return list(parts)[-1].model_dump()


def chat():
    create = client(instructor.Mode.JSON).chat.completions.create
    return create(model=MODEL, messages=ASK, response_model=None).choices[0].message.content


run(
    tools=in_mode(instructor.Mode.TOOLS),
    chat=chat,
    json_schema_stream=stream,
    json_schema=in_mode(instructor.Mode.JSON_SCHEMA),
    json_mode=in_mode(instructor.Mode.JSON),
    md_json=in_mode(instructor.Mode.MD_JSON),
)
