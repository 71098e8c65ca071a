"""Models in vLLM, started and driven by this process: an engine process per model, no server.

`engine` starts them and opens sessions. `arguments` makes vLLM's arguments from a team file, and
`plan` says which models share an engine and what memory each has. `library` imports vLLM and
`engine_thread` is the thread in which it runs. `session` is an answer, `requests` its requests,
`outputs` what comes back, `open_requests` the requests that stay open between the turns of a model.
`executors` is the only part that vLLM's own processes use.
"""
