"""dspy."""

import asyncio
from typing import Literal

import dspy
from shared import KEY, MODEL, QUESTION, URL, run

lm = dspy.LM(f"openai/{MODEL}", api_base=URL, api_key=KEY, cache=False)


class Describe(dspy.Signature):
    """Say what a city is."""

    question: str = dspy.InputField()
    kind: Literal["town", "port"] = dspy.OutputField()
    old: bool = dspy.OutputField()


def chat():
    return lm(QUESTION)[0]


def stream():
    dspy.configure(lm=lm)
    predict = dspy.Predict("question -> answer")
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(predict, stream_listeners=[listener])

    async def pieces():
        parts = [part async for part in program(question=QUESTION)]
        return [part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse)]

    return asyncio.run(pieces())


def prompted():
    dspy.configure(lm=lm)
    return dict(dspy.Predict(Describe)(question=QUESTION))


def json_adapter():
    dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
    return dict(dspy.Predict(Describe)(question=QUESTION))


run(chat=chat, stream=stream, prompted=prompted, json_adapter=json_adapter)
