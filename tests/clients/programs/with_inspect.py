"""inspect_ai, through its provider for compatible servers."""

import tempfile

import inspect_ai
from city import City
from inspect_ai.dataset import Sample
from inspect_ai.model import ResponseSchema, get_model
from inspect_ai.util import json_schema as schema_of
from shared import KEY, MODEL, QUESTION, URL, run


def evaluated(stream=None, **settings):
    name = f"openai-api/taketurns/{MODEL}"
    model = get_model(name, base_url=URL, api_key=KEY, stream=stream)
    task = inspect_ai.Task(dataset=[Sample(input=QUESTION)])
    (log,) = inspect_ai.eval(
        task, model=model, display="none", log_dir=tempfile.mkdtemp(), **settings
    )
    if log.status != "success":
        raise RuntimeError(log.error.message)
    return log.samples[0].output.completion


def chat():
    return evaluated()


def stream():
    return evaluated(stream=True)


def json_schema():
    return evaluated(response_schema=ResponseSchema(name="city", json_schema=schema_of(City)))


run(chat=chat, stream=stream, json_schema=json_schema)
