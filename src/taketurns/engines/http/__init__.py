"""Models behind HTTP servers: vLLM and others with OpenAI's completions API.

`engine` opens sessions. `session` writes a patch, on several servers if one fails. `fleet` repeats
a request until a server answers it; `routing` selects that server, and `replicas` tracks the health
of each. `probe` asks what a server can do. `requests` makes the requests, `protocol` reads the
replies.
"""
