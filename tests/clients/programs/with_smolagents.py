"""smolagents: an agent that must call tools, among them the one that ends it with an answer."""

from shared import KEY, MODEL, QUESTION, URL, run
from smolagents import ActionStep, OpenAIModel, ToolCallingAgent, tool


@tool
def record(old: bool) -> str:
    """Records whether a city is old.

    Args:
        old: whether it is old
    """
    return f"kept: {old}"


def ask(**more):
    model = OpenAIModel(
        MODEL, api_base=URL, api_key=KEY, client_kwargs={"max_retries": 0}, max_tokens=300
    )
    agent = ToolCallingAgent([record], model, max_steps=2, verbosity_level=0, **more)
    answer = agent.run(QUESTION)
    steps = [step for step in agent.memory.steps if isinstance(step, ActionStep)]
    return {
        "answer": str(answer),
        "called": [call.name for step in steps for call in step.tool_calls or ()],
        "errors": [str(step.error) for step in steps if step.error is not None],
    }


run(tool=ask, tool_stream=lambda: ask(stream_outputs=True))
