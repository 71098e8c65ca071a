"""How an answer's text is judged. `table.py` names the scorers; each judges one kind of answer."""
