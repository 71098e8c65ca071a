"""pydantic-ai, with its default output, which needs tools, and with those that do not."""

import asyncio

from city import City
from pydantic_ai import Agent, NativeOutput, PromptedOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from shared import KEY, MODEL, QUESTION, URL, run

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))


def chat():
    agent = Agent(model, instructions="You are a geographer.")
    return agent.run_sync(QUESTION).output


def stream():
    async def pieces():
        async with Agent(model).run_stream(QUESTION) as result:
            return [piece async for piece in result.stream_text(delta=True)]

    return asyncio.run(pieces())


def json_schema():
    return Agent(model, output_type=NativeOutput(City)).run_sync(QUESTION).output.model_dump()


def prompted():
    return Agent(model, output_type=PromptedOutput(City)).run_sync(QUESTION).output.model_dump()


def tools():
    return Agent(model, output_type=City).run_sync(QUESTION).output.model_dump()


run(chat=chat, stream=stream, json_schema=json_schema, prompted=prompted, tools=tools)
