"""llama-index's OpenAILike."""

from city import City
from llama_index.core.llms import ChatMessage
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.llms.openai_like import OpenAILike
from shared import KEY, MODEL, QUESTION, URL, run

llm = OpenAILike(model=MODEL, api_base=URL, api_key=KEY, is_chat_model=True)
ASK = [
    ChatMessage(role="system", content="You are a geographer."),
    ChatMessage(role="user", content=QUESTION),
]


def chat():
    return llm.chat(ASK).message.content


def stream():
    return [part.delta for part in llm.stream_chat(ASK)]


def json_schema():
    strict = OpenAILike(
        model=MODEL,
        api_base=URL,
        api_key=KEY,
        is_chat_model=True,
        should_use_structured_outputs=True,
    )
    return strict.as_structured_llm(City).chat(ASK).raw.model_dump()


def prompted():
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=City, prompt_template_str="{question}", llm=llm
    )
    return program(question=QUESTION).model_dump()


def tools():
    calling = OpenAILike(
        model=MODEL,
        api_base=URL,
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
    )
    return calling.as_structured_llm(City).chat(ASK).raw.model_dump()


def completions():
    plain = OpenAILike(model=MODEL, api_base=URL, api_key=KEY)
    return plain.complete(QUESTION).text


run(
    chat=chat,
    stream=stream,
    json_schema=json_schema,
    prompted=prompted,
    completions=completions,
    tools=tools,
)
