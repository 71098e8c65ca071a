"""LiteLLM's library."""

from city import City
from litellm import completion
from shared import KEY, MODEL, QUESTION, URL, run

ASKED = {
    "model": f"openai/{MODEL}",
    "api_base": URL,
    "api_key": KEY,
    "messages": [{"role": "user", "content": QUESTION}],
}


def chat():
    return completion(**ASKED).choices[0].message.content


def hosted_vllm():
    return completion(**ASKED | {"model": f"hosted_vllm/{MODEL}"}).choices[0].message.content


def stream():
    return [chunk.choices[0].delta.content or "" for chunk in completion(**ASKED, stream=True)]


def json_schema():
    return completion(**ASKED, response_format=City).choices[0].message.content


def json_object():
    form = {"type": "json_object"}
    return completion(**ASKED, response_format=form).choices[0].message.content


run(
    chat=chat,
    hosted_vllm=hosted_vllm,
    stream=stream,
    json_schema=json_schema,
    json_object=json_object,
)
