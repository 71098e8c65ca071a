"""What a checkpoint's files say: where they are, weights, configuration, tokenizer, chat
template."""
