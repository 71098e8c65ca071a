"""Serve a team behind the OpenAI API and ask it with the openai client."""

import socket
import subprocess
import sys
import time
from urllib.request import urlopen

from openai import OpenAI

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
url = f"http://127.0.0.1:{port}"
command = [sys.executable, "-m", "taketurns", "serve", "--team", "pocket", "--port", str(port)]
server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
try:
    while server.poll() is None:
        try:
            urlopen(f"{url}/health/ready")
            break
        except OSError:
            time.sleep(0.2)
    with OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        asked = [{"role": "user", "content": "what is 23 + 48?"}]
        answer = client.chat.completions.create(model="pocket", messages=asked, seed=1)
        print(answer.choices[0].message.content)
        stream = client.chat.completions.create(model="pocket", messages=asked, seed=1, stream=True)
        print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
finally:
    server.terminate()
    server.wait()
