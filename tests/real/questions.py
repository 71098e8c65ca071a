"""Short questions with digits, commas, code and several languages."""

QUESTIONS = (
    "What is the capital of France, and what river runs through it?",
    "A shop sells 48 clips in April and half as many in May. How many clips is that in all?",
    "Write a Python function that returns the largest of three numbers.",
    "Name three colours, separated by commas.",
    "Was ist die Hauptstadt von Österreich, und wie viele Menschen wohnen dort?",
    "¿Cuántos días tiene febrero en un año bisiesto?",
    "日本で一番高い山は何ですか。",
    "Переведи на английский: «Доброе утро, друзья!»",
    "List the numbers from 1 to 10, and put 🙂 after each even one.",
    "What does this print?\n\n```python\nfor i in range(3):\n    print(i * 10, end=', ')\n```",
    'Give the JSON of a person called "Zoë Müller", 42 years old, with 2.5 € in her purse.',
    "Convert 3/4 to a decimal, to a percentage and to a fraction of 1,000.",
)
