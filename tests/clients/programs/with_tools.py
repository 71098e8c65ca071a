"""LangChain and pydantic-ai, with their outputs and calls by tools."""

from city import City
from shared import KEY, MODEL, QUESTION, URL, run


def bound():
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL, max_retries=0)
    message = model.bind_tools([City], tool_choice="City").invoke(QUESTION)
    (call,) = message.tool_calls
    return call["args"]


def bound_stream():
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL, max_retries=0)
    whole = None
    for chunk in model.bind_tools([City], tool_choice="City").stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    return call["args"]


def function_calling():
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(base_url=URL, api_key=KEY, model=MODEL, max_retries=0)
    return (
        model.with_structured_output(City, method="function_calling").invoke(QUESTION).model_dump()
    )


def tool_output():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))
    return Agent(model, output_type=City).run_sync(QUESTION).output.model_dump()


def tool_output_responses():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))
    return Agent(model, output_type=City).run_sync(QUESTION).output.model_dump()


run(
    bound=bound,
    bound_stream=bound_stream,
    function_calling=function_calling,
    tool_output=tool_output,
    tool_output_responses=tool_output_responses,
)
