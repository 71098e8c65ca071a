"""agno."""

from agno.agent import Agent, RunEvent
from agno.models.openai.like import OpenAILike
from city import City
from shared import KEY, MODEL, QUESTION, URL, run

model = OpenAILike(id=MODEL, base_url=URL, api_key=KEY)


def chat():
    return Agent(model=model, markdown=True).run(QUESTION).content


def stream():
    events = Agent(model=model).run(QUESTION, stream=True)
    return [event.content for event in events if event.event == RunEvent.run_content]


def json_schema():
    return Agent(model=model, output_schema=City).run(QUESTION).content.model_dump()


def json_mode():
    agent = Agent(model=model, output_schema=City, use_json_mode=True)
    return agent.run(QUESTION).content.model_dump()


run(chat=chat, stream=stream, json_schema=json_schema, json_mode=json_mode)
