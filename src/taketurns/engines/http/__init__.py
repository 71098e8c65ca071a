"""Models behind HTTP servers: vLLM and whatever else speaks OpenAI's completions API.

`engine` hands out sessions; `session` writes a patch, over as many servers as it takes; `fleet`
tries a request until a server answers it; `routing` says which, `replicas` how each has been doing;
`probe` asks what a server can do; `requests` knows what is asked, `wire` the replies.
"""
