"""What a team costs in vLLM inside one process, beside one model, servers and the floor."""
