"""Reading a checkpoint's files: their places, weights, configuration, tokenizer and chat
template."""
