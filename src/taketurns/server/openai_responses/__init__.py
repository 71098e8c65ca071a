"""OpenAI's Responses API: the same answers in its form, and a store of those given."""
