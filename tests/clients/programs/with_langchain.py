"""langchain-openai."""

from city import City
from langchain_openai import ChatOpenAI
from shared import CITY, KEY, MODEL, QUESTION, URL, run

llm = ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY)


def chat():
    return llm.invoke([("system", "You are a geographer."), ("human", QUESTION)]).content


def stream():
    return [chunk.content for chunk in llm.stream(QUESTION)]


def json_schema():
    return llm.with_structured_output(City, method="json_schema").invoke(QUESTION).model_dump()


def json_schema_stream():
    title = {"title": "city", "description": "what a city is"}
    parts = llm.with_structured_output(title | CITY, method="json_schema").stream(QUESTION)
    return list(parts)[-1]


def json_mode():
    ask = f'{QUESTION} Respond in JSON with the keys "kind" and "old".'
    return llm.with_structured_output(City, method="json_mode").invoke(ask).model_dump()


def tools():
    return llm.with_structured_output(City, method="function_calling").invoke(QUESTION).model_dump()


run(
    chat=chat,
    stream=stream,
    json_schema=json_schema,
    json_schema_stream=json_schema_stream,
    json_mode=json_mode,
    tools=tools,
)
