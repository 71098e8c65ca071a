"""OpenAI's agents, by both of their APIs: an agent that must call a tool, whose result ends it."""

import asyncio

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from city import City
from openai import AsyncOpenAI
from shared import KEY, MODEL, QUESTION, URL, run

set_tracing_disabled(True)


@function_tool
def record(old: bool) -> str:
    """Records whether a city is old."""
    return f"kept: {old}"


def model(kind):
    return kind(model=MODEL, openai_client=AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0))


def agent(kind, **more):
    return Agent(name="a", instructions="Answer briefly.", model=model(kind), **more)


def tool(kind):
    settings = ModelSettings(tool_choice="required", parallel_tool_calls=False, max_tokens=300)
    made = agent(
        kind, tools=[record], model_settings=settings, tool_use_behavior="stop_on_first_tool"
    )
    return Runner.run_sync(made, QUESTION).final_output


def tool_stream(kind):
    async def ask():
        settings = ModelSettings(tool_choice="required", parallel_tool_calls=False, max_tokens=300)
        made = agent(
            kind, tools=[record], model_settings=settings, tool_use_behavior="stop_on_first_tool"
        )
        streamed = Runner.run_streamed(made, QUESTION)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output

    return asyncio.run(ask())


def output(kind):
    made = agent(kind, output_type=City)
    return Runner.run_sync(made, QUESTION).final_output.model_dump()


run(
    chat_tool=lambda: tool(OpenAIChatCompletionsModel),
    chat_tool_stream=lambda: tool_stream(OpenAIChatCompletionsModel),
    chat_output=lambda: output(OpenAIChatCompletionsModel),
    responses_tool=lambda: tool(OpenAIResponsesModel),
    responses_tool_stream=lambda: tool_stream(OpenAIResponsesModel),
    responses_output=lambda: output(OpenAIResponsesModel),
)
