"""Reads PTX text.

In: the text of a module as Triton's compiler writes it.  Out: a `Module`: its functions with their instructions,
labels, registers and parameters, and its variables.  What is not known is an error, never skipped; only what carries no
meaning for execution is: comments, debugging sections, `.loc`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace


class PtxError(Exception):
    """Text or an instruction that the machine does not know."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `guard`: the predicate before it, with its "!"; `operands`: as they are written."""

    opcode: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str
    line: int
    text: str

    @property
    def name(self) -> str:
        return ".".join(self.opcode)

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a state space. `values`: its initial elements, of `width` bytes; none for those without."""

    space: str
    name: str
    width: int
    count: int
    values: tuple[int, ...]


@dataclass(slots=True)
class Function:
    """A function. labels: numbers of the instructions they stand before; parameters: types by name, in order."""

    name: str
    parameters: dict[str, str]
    results: tuple[str, ...] = ()
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Module:
    target: str = ""
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
LINE_DIRECTIVE = re.compile(r"\.(version|target|address_size|file|loc)\b[^\n]*")
SECTION = re.compile(r"\.section\s+[.\w]+\s*\{.*?\}", re.S)
FUNCTION = re.compile(
    r"(?:\.(?:visible|weak|extern)\s+)?\.(?:entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*\(([^)]*)\)[^{;]*([{;])", re.S
)
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(?:\s+\.ptr(?:\s+\.\w+)?(?:\s+\.align\s+\d+)?)?\s+([\w$]+)"
)
VARIABLE = re.compile(
    r"(?:\.(?:extern|visible|weak)\s+)?\.(shared|global|const|local|param)\s+(?:\.align\s+\d+\s+)?\.([a-z]\d+)\s+"
    r"([\w$]+)(?:\[(\d*)\])?\s*(?:=\s*(.*))?$",
    re.S,
)
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)$", re.S)
LABEL = re.compile(r"([\w$]+):(?!:)")
STATEMENT = re.compile(r"(?:@(!?%?[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.S)
NAME = re.compile(r"%?[A-Za-z_$][\w$]*")


def parse(text: str) -> Module:
    """The module of a text."""
    target = re.search(r"\.target\s+(\S+)", text)
    text = COMMENT.sub(lambda m: _blank(m[0]), text)
    text = SECTION.sub(lambda m: _blank(m[0]), text)
    text = LINE_DIRECTIVE.sub("", text)
    module = Module(target[1].rstrip(",") if target else "")
    at = 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        head = FUNCTION.match(text, at)
        if head is not None:
            at = _function(module, text, head) if head[4] == "{" else head.end()
            continue
        end = text.find(";", at)
        if end < 0:
            raise PtxError(f"line {_line(text, at)}: {text[at : at + 60]!r}")
        _declare(module.variables, text[at:end], _line(text, at))
        at = end + 1
    return module


def _blank(text: str) -> str:
    """White space of as many lines."""
    return "\n" * text.count("\n") or " "


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _declare(variables: dict[str, Variable], text: str, line: int) -> None:
    found = VARIABLE.match(text.strip())
    if found is None:
        raise PtxError(f"line {line}: {text.strip()!r} is no variable that the machine knows")
    space, kind, name, count, values = found.groups()
    numbers = tuple(int(v, 0) for v in values.strip("{} \n").split(",")) if values else ()
    width = int(kind[1:]) // 8
    variables[name] = Variable(space, name, width, int(count) if count else (0 if count == "" else 1), numbers)


def _function(module: Module, text: str, head: re.Match[str]) -> int:
    """Read a function; the place after its end."""
    parameters = {m[2]: m[1] for m in PARAMETER.finditer(head[3])}
    if len(parameters) != head[3].count(".param"):
        raise PtxError(f"function {head[2]}: parameters {head[3]!r}")
    results = tuple(m[2] for m in PARAMETER.finditer(head[1] or ""))
    function = Function(head[2], parameters, results)
    module.functions[function.name] = function
    return _Body(function, text, head.end()).read()


class _Body:
    """The statements of a function. Registers that are declared in braces get names of their own."""

    def __init__(self, function: Function, text: str, at: int):
        self.function, self.text, self.at = function, text, at
        self.line, self.counted = _line(text, at), at
        self.scopes: list[dict[str, str]] = [{}]
        self.opened = 0

    def read(self) -> int:
        while True:
            self._skip_space()
            if self.text[self.at] == "{":
                self.scopes.append({})
                self.opened += 1
                self.at += 1
            elif self.text[self.at] == "}":
                self.scopes.pop()
                self.at += 1
                if not self.scopes:
                    return self.at
            else:
                self._statement()

    def _skip_space(self) -> None:
        while self.text[self.at].isspace():
            self.at += 1
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at

    def _statement(self) -> None:
        label = LABEL.match(self.text, self.at)
        if label is not None:
            self.function.labels[label[1]] = len(self.function.code)
            self.at = label.end()
            return
        end = self.text.index(";", self.at)
        text = " ".join(self.text[self.at : end].split())
        self.at = end + 1
        if text.startswith(".reg"):
            self._registers(text)
        elif text.startswith("."):
            if not text.startswith(".pragma"):
                self._variable(text)
        elif text:
            self.function.code.append(self._instruction(text))

    def _registers(self, text: str) -> None:
        found = REGISTERS.match(text)
        assert found is not None, text
        for name in found[2].split(","):
            name = name.strip()
            many = re.match(r"(%?[\w$]+)<(\d+)>$", name)
            if many is not None:
                self.function.registers |= {f"{many[1]}{k}": found[1] for k in range(int(many[2]))}
                continue
            self.function.registers[self._own(name)] = found[1]

    def _variable(self, text: str) -> None:
        found: dict[str, Variable] = {}
        _declare(found, text, self.line)
        for name, variable in found.items():
            own = self._own(name)
            self.function.variables[own] = replace(variable, name=own)

    def _own(self, name: str) -> str:
        """The name of what is declared here: one of its own in braces."""
        own = name if len(self.scopes) == 1 else f"{name}$${self.opened}"
        self.scopes[-1][name] = own
        return own

    def _instruction(self, text: str) -> Instruction:
        found = STATEMENT.match(text)
        if found is None:
            raise PtxError(f"line {self.line}: {text!r} is no instruction")
        guard, opcode, rest = found.groups()
        if len(self.scopes) > 1:
            rest = NAME.sub(lambda m: self._renamed(m[0]), rest)
            guard = guard and NAME.sub(lambda m: self._renamed(m[0]), guard)
        return Instruction(tuple(opcode.split(".")), tuple(operands(rest)), guard or "", self.line, text)

    def _renamed(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return name


def operands(text: str) -> list[str]:
    """The operands, cut at the commas that are not in braces or brackets; `p|q` are two of them."""
    found, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character in ",|" and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*found, last] if last else found


def elements(operand: str) -> list[str]:
    """The registers of a vector `{a, b}`, or the one register."""
    return [e.strip() for e in operand.strip("{} ").split(",")]
