"""Every error that the package raises says what is wrong, where, and what to do about it.

The sources are read, not run: each place that makes an error of `taketurns.errors` gives the text
of its message, with `{…}` where a value goes. Texts from constants, local variables and small
functions are followed. `tests/messages/test_provoked.py` provokes the commonest of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import taketurns

SOURCE = Path(taketurns.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef
Faults = Callable[..., list[str]]
DEPTH = 8  # how many functions a text is followed through
MOST = 40  # texts of one place


@dataclass(frozen=True)
class Message:
    """One text of one place that makes an error."""

    file: str
    function: str
    line: int
    error: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.error}: {self.text}"


@dataclass
class Module:
    """A source file, with what it takes to follow a text."""

    path: Path
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.relative_to(SOURCE).as_posix()


@cache
def module(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = Module(path, tree)
    for node in ast.walk(tree):
        if isinstance(node, Function):
            made.functions.setdefault(node.name, node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taketurns"):
            for alias in node.names:
                made.imported[alias.asname or alias.name] = (node.module or "", alias.name)
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    made.constants[target.id] = node.value
    return made


def modules() -> list[Module]:
    return [module(path) for path in sorted(SOURCE.rglob("*.py"))]


def _home(name: str) -> Module | None:
    """The file of a module of the package."""
    place = SOURCE.joinpath(*name.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return module(path)
    return None


@cache
def error_classes() -> frozenset[str]:
    """The classes of `taketurns.errors` and all that are made of them, by name."""
    known = {"TakeTurnsError"}
    classes = [
        node for each in modules() for node in ast.walk(each.tree) if isinstance(node, ast.ClassDef)
    ]
    while True:
        more = {
            node.name
            for node in classes
            if any(isinstance(base, ast.Name) and base.id in known for base in node.bases)
        }
        if more <= known:
            return frozenset(known)
        known |= more


class Reader:
    """Follows an expression to the texts that it may give. `{…}` stands for any other value."""

    def __init__(self, source: Module, function: Function | None, depth: int = 0) -> None:
        self._source = source
        self._function = function
        self._depth = depth

    def texts(self, node: ast.expr | None) -> list[str]:
        if node is None:
            return [""]
        found = self._followed(node)
        return list(dict.fromkeys(found if found is not None else [_value(node)]))[:MOST]

    def _followed(self, node: ast.expr) -> list[str] | None:
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            return self._joined([self.texts(part) for part in node.values])
        if isinstance(node, ast.FormattedValue):
            plain = node.conversion == -1 and node.format_spec is None
            return self.texts(node.value) if plain else [_value(node.value)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._joined([self.texts(node.left), self.texts(node.right)])
        if isinstance(node, ast.IfExp):
            return [*self.texts(node.body), *self.texts(node.orelse)]
        if isinstance(node, ast.BoolOp):
            return [text for value in node.values for text in self.texts(value)]
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Await):
            return self._followed(node.value)
        if isinstance(node, ast.Call):
            return self._call(node)
        return None

    def _joined(self, parts: Sequence[list[str]]) -> list[str]:
        return ["".join(texts) for texts, _ in zip(product(*parts), range(MOST), strict=False)]

    def _name(self, name: str) -> list[str] | None:
        if self._function is not None:
            given = [
                node.value
                for node in ast.walk(self._function)
                if isinstance(node, ast.Assign | ast.NamedExpr)
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
                if isinstance(target, ast.Name) and target.id == name
            ]
            texts = [text for value in given for text in self._again().texts(value)]
            if given:
                # Words are followed; a path or a number is more readable by its name.
                return texts if any(" " in re.sub(r"{[^}]*}", "", x) for x in texts) else None
        if name in self._source.constants:
            return self._texts_of(self._source.constants[name], self._source, None)
        if name in self._source.imported:
            home, original = self._source.imported[name]
            there = _home(home)
            if there is not None and original in there.constants:
                return self._texts_of(there.constants[original], there, None)
        return None

    def _call(self, node: ast.Call) -> list[str] | None:
        if isinstance(node.func, ast.Name):
            name, there = node.func.id, self._source
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            name, there = node.func.attr, self._source
            owner = node.func.value.id
            if owner in self._source.imported:  # a function of a module
                found = _home(".".join(self._source.imported[owner]))
                if found is None:
                    return None
                there = found
            elif owner not in ("self", "cls") and not name.startswith("_"):
                return None  # a method of another object, if not a private one of this module
        else:
            return None
        if name in self._source.imported:
            home, name = self._source.imported[name]
            found = _home(home)
            if found is None or found.name == "errors.py":  # one_line: the reason of another
                return None
            there = found
        function = there.functions.get(name)
        if function is None or self._depth >= DEPTH:
            return None
        returned = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Return)
            and node.value is not None
            and not (isinstance(node.value, ast.Constant) and node.value.value is None)
        ]
        reader = Reader(there, function, self._depth + 1)
        return [text for value in returned for text in reader.texts(value)] or None

    def _texts_of(
        self, node: ast.expr, source: Module, function: Function | None
    ) -> list[str] | None:
        if self._depth >= DEPTH or not isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            return None
        return Reader(source, function, self._depth + 1).texts(node)

    def _again(self) -> Reader:
        return Reader(
            self._source, self._function if self._depth < DEPTH else None, self._depth + 1
        )


def _value(node: ast.expr) -> str:
    return "{" + re.sub(r"[{}]", "", ast.unparse(node)) + "}"


def _errors(source: Module, call: ast.Call) -> tuple[str, ast.expr] | None:
    """The class and the message of an error that a call makes, or holds against a condition."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr == "unless":
        return ast.unparse(function.value), call.args[1]
    if not isinstance(function, ast.Name):
        return None
    alias = source.constants.get(function.id)  # _require = ConfigError.unless
    if isinstance(alias, ast.Attribute) and alias.attr == "unless":
        return ast.unparse(alias.value), call.args[1]
    if function.id in error_classes() or function.id == "error_class":
        return function.id, call.args[0] if call.args else ast.Constant("")
    return None


def _calls(tree: ast.AST) -> Iterator[tuple[Function | None, ast.Call]]:
    """Every call, and the function that it stands in."""

    def walk(
        node: ast.AST, function: Function | None
    ) -> Iterator[tuple[Function | None, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inside = child if isinstance(child, Function) else function
            if isinstance(child, ast.Call):
                yield function, child
            yield from walk(child, inside)

    return walk(tree, None)


@cache
def _raisers(path: Path) -> dict[str, tuple[str, list[str], list[str]]]:
    """Functions of a module whose errors end in the words that a caller gives: the class of the
    error, the parameters and the texts, in which `{parameter}` stands for what is given."""
    source = module(path)
    found = {}
    for function, call in _calls(source.tree):
        made = _errors(source, call)
        if made is None or function is None:
            continue
        parameters = [item.arg for item in function.args.args if item.arg not in ("self", "cls")]
        parameters += [item.arg for item in function.args.kwonlyargs]
        texts = Reader(source, function).texts(made[1])
        if any(re.search(rf"(?:^|: )\{{{name}\}}$", x) for name in parameters for x in texts):
            found[function.name] = (made[0], parameters, texts)
    return found


def _handed_on(source: Module, function: Function | None, call: ast.Call) -> list[tuple[str, str]]:
    """The class and the texts of the errors of a function that is given their words."""
    name, there = None, source
    if isinstance(call.func, ast.Name):
        name = call.func.id
        if name in source.imported:
            home, name = source.imported[name]
            there = _home(home) or source
    elif isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("self", "cls"):
        name = call.func.attr
    raiser = _raisers(there.path).get(name or "")
    if raiser is None:
        return []
    error, parameters, templates = raiser
    given = dict(zip(parameters, call.args, strict=False))
    given |= {item.arg: item.value for item in call.keywords if item.arg is not None}
    texts = templates
    for parameter, value in given.items():
        if isinstance(value, ast.Starred) or not any(f"{{{parameter}}}" in t for t in texts):
            continue
        said = Reader(source, function).texts(value)
        texts = [text.replace(f"{{{parameter}}}", word) for text in texts for word in said][:MOST]
    return [(error, text) for text in texts]


@cache
def messages() -> tuple[Message, ...]:
    found = []
    for source in modules():
        if source.name == "errors.py":
            continue
        for function, call in _calls(source.tree):
            made = _errors(source, call)
            texts = _handed_on(source, function, call)
            if made is not None:
                texts = [(made[0], text) for text in Reader(source, function).texts(made[1])]
            where = function.name if function is not None else ""
            found += [Message(source.name, where, call.lineno, *text) for text in texts]
    return tuple(dict.fromkeys(found))


INTERNAL = {
    ("engines/local/lifetime.py", "enter"): "a call after close(), which only code can make",
    ("engines/local/model_threads.py", "close"): "close() while an answer is written, as above",
    ("engines/local/worker.py", "_stop"): "the same",
    ("engines/vllm/engine_thread.py", "_running"): "a call after close(), as above",
    ("engines/vllm/engine_thread.py", "run"): "close() while an answer is written, as above",
}
"""Places that no user's input reaches, and why."""
SERVERS = {("engines/http/faults.py", "refuse"), ("engines/http/protocol.py", "_finish")}
"""Places where a server says what is wrong, in its own words."""
COMPUTED = "NaN or infinity"
"""A model computed what is no number: the message names the model and what it gave. Nothing that
the user wrote is wrong. So are all errors of the class NotANumberError."""


def test_the_places_are_found() -> None:
    """Those of every kind: raised outright, made by a helper, held against a condition."""
    found = {(each.file, each.function) for each in messages()}
    assert ("config/settings.py", "parse_setting") in found
    assert ("config/resolve.py", "_policy") in found
    assert ("config/policy.py", "__post_init__") in found
    assert ("runs/output.py", "_refused") in found
    assert len({(each.file, each.line) for each in messages()}) > 450
    for place in {*INTERNAL, *SERVERS}:
        assert place in found, "an exception for a place that is no more"


@pytest.mark.parametrize("package", sorted({each.file.partition("/")[0] for each in messages()}))
def test_every_message_says_what_where_and_the_cure(package: str, faults: Faults) -> None:
    lacking = []
    for message in messages():
        if message.file.partition("/")[0] != package:
            continue
        if (message.file, message.function) in INTERNAL:
            continue
        found = faults(message.text)
        server = (message.file, message.function) in SERVERS
        if server or COMPUTED in message.text or message.error == "NotANumberError":
            found = [fault for fault in found if fault != "no cure"]
        lacking += [f"{message}: {fault}" for fault in found]
    assert not lacking, "\n".join(lacking)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nobody can write: give one candidate no share", "the word 'nobody'"),
        ("the engine was asked 5 times in vain: start {url}", "the word 'in vain'"),
        ("choices are missing", "no value, key, option or file"),
        ("choices are missing", "no cure"),
        ("{path} has no weights", "no cure"),
        ("there is no task {name}", "no cure"),
        ("policy.top_p is wrong, {value}", "no cure"),
    ],
)
def test_a_bad_message_is_caught(text: str, fault: str, faults: Faults) -> None:
    assert fault in faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "there is no task {name!r}; the tasks are {known}",
        "{path}:{line}: unknown key {key!r}; did you mean {near!r}?",
        "top_p must be above 0 and at most 1, not {value}",
        "the judge {name} has no servers: give it urls",
        "cannot read {path}: {error.strerror}",
    ],
)
def test_a_good_message_is_not(text: str, faults: Faults) -> None:
    assert faults(text) == []


def test_a_changed_source_is_caught(tmp_path: Path, faults: Faults) -> None:
    """A place as the package has them, with its cure taken away."""
    good = (
        "from taketurns.errors import UsageError\n"
        "CURE = 'give it a name'\n"
        "def check(task):\n"
        "    what = f'the task {task!r} has no name'\n"
        "    raise UsageError(f'{what}: {CURE}')\n"
    )
    for text, expected in ((good, []), (good.replace("give it", "it lacks"), ["no cure"])):
        path = tmp_path / f"{len(text)}.py"
        path.write_text(text)
        source = module(path)
        ((function, call),) = [
            (function, call)
            for function, call in _calls(source.tree)
            if _errors(source, call) is not None
        ]
        (said,) = Reader(source, function).texts(call.args[0])
        assert said.startswith("the task {task} has no name: ")
        assert faults(said) == expected
