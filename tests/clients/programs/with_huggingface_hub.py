"""huggingface_hub's InferenceClient."""

from huggingface_hub import InferenceClient
from shared import CITY, KEY, MODEL, QUESTION, URL, run

client = InferenceClient(base_url=URL, api_key=KEY)
ASK = [{"role": "user", "content": QUESTION}]


def chat():
    return client.chat.completions.create(model=MODEL, messages=ASK).choices[0].message.content


def stream():
    chunks = client.chat_completion(ASK, model=MODEL, max_tokens=40, stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def json_schema():
    form = {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": CITY, "strict": True},
    }
    reply = client.chat_completion(ASK, model=MODEL, response_format=form)
    return reply.choices[0].message.content


run(chat=chat, stream=stream, json_schema=json_schema)
