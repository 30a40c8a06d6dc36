"""Variables of a training loop that carry something from one pass to the next, by the liveness of its bytecode.

A variable is live where its value may be read before it is written again, as a compiler means it. What is live where a
loop asks for its next epoch is state, unless nothing ever changes it.
"""

import dis
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

Part = tuple[str, str]  # a variable, and an attribute `.name` or item `[key]` of it; "" for the rest of it

JUMPS = {*dis.hasjrel, *dis.hasjabs}
ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
GOES = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE")
VARIABLE = re.compile(r"(LOAD|STORE|DELETE)_(FAST|DEREF|GLOBAL|NAME|CLASSDEREF)")
SETS = ("STORE_SUBSCR", "DELETE_SUBSCR")
RENEWS = ("reset", "clear", "start", "begin")  # in the name of a method after which an object begins anew
FILLS = ("zero", "zero_", "fill", "fill_", "copy_")  # methods that set all numbers of a tensor, array or meter
APPENDS = ("append", "appendleft", "extend", "insert")  # results that a list is given, which is read elsewhere or not
PUTS = (*APPENDS, "add", "update")  # the same of a variable outside


class Access(NamedTuple):
    """One read or write of a part of a variable; `binds` where the variable gets another object."""

    writes: bool
    part: Part
    binds: bool = False


class Carried(NamedTuple):
    """The variables that a pass of a loop begins with.

    Attributes:
        live: parts that may be read in a pass before they are written.
        rebound: variables that a pass binds to another value.
        named: all parts that the code reads or writes by themselves.
    """

    live: frozenset[Part]
    rebound: frozenset[str]
    named: frozenset[Part]

    def has(self, name: str, part: str) -> bool:
        """True if this part of a variable is live; one that the code does not name is live where the rest is."""
        return ((name, part) if (name, part) in self.named else (name, "")) in self.live


def carried(code: CodeType, head: int, functions: Mapping[str, CodeType]) -> Carried:
    """Return the variables that a loop carries into each pass.

    Inner loops are taken to have one pass at least, and exceptions not to occur, so that a variable which they set is
    not one that is carried.

    Args:
        code: of the function with the loop.
        head: offset of the instruction that asks for the next pass.
        functions: the code of functions that are defined in the loop's function, by their variables.
    """
    return _carried(code, head, frozenset(functions.items()))


@lru_cache(64)
def _carried(code: CodeType, head: int, functions: frozenset[tuple[str, CodeType]]) -> Carried:
    graph = _Graph(code, _accesses(code, dict(functions)))
    start = graph.at(head)
    live = graph.live_in(start)
    inside = graph.reachable(start)
    rebound = {access.part[0] for node in inside for access in graph.accesses[node[0]] if access.binds}
    named = {access.part for accesses in graph.accesses for access in accesses}
    return Carried(frozenset(live), frozenset(rebound), frozenset(named))


Node = tuple[int, bool]  # the number of an instruction, and False for a loop's head that is reached for the first time


class _Graph:
    """The control flow of a function, without exceptions, and its accesses by instruction."""

    def __init__(self, code: CodeType, accesses: Sequence[Sequence[Access]]) -> None:
        self.instructions = list(dis.get_instructions(code))
        self.accesses = accesses
        self._index = {instruction.offset: i for i, instruction in enumerate(self.instructions)}
        self._pass: Node | None = None  # the head of the loop over epochs, which is never left

    def at(self, offset: int) -> Node:
        """Return the node of a loop's head, to be entered once more."""
        self._pass = (max(i for at, i in self._index.items() if at <= offset), True)  # `offset` may be in its cache
        return self._pass

    def live_in(self, start: Node) -> set[Part]:
        """Return the parts that are live where a node begins."""
        live: dict[Node, set[Part]] = {node: set() for node in self.reachable(start)}
        changed = True
        while changed:
            changed = False
            for node in sorted(live, reverse=True):
                before = self._transferred(node, set().union(*(live[after] for after in self._after(node))))
                changed = changed or before != live[node]
                live[node] = before
        return live[start]

    def reachable(self, start: Node) -> set[Node]:
        """Return the nodes that may come after `start`, and itself."""
        seen, left = {start}, [start]
        while left:
            fresh = set(self._after(left.pop())) - seen
            seen |= fresh
            left += fresh
        return seen

    def _transferred(self, node: Node, live: set[Part]) -> set[Part]:
        for access in reversed(self.accesses[node[0]]):
            name, part = access.part
            if not access.writes:
                live.add(access.part)
            elif part:
                live.discard(access.part)
            else:
                live = {other for other in live if other[0] != name}
        return live

    def _after(self, node: Node) -> list[Node]:
        index, again = node
        instruction = self.instructions[index]
        if instruction.opname in ENDS:
            return []
        loops = instruction.opname == "FOR_ITER"
        target = self._index[instruction.argval] if instruction.opcode in JUMPS else None
        nodes = [] if instruction.opname in GOES else [(index + 1, False)]
        if target is not None and not (loops and (not again or node == self._pass)):
            nodes.append((target, target <= index))
        return nodes


def _accesses(code: CodeType, functions: Mapping[str, CodeType]) -> list[list[Access]]:
    """Return the accesses of every instruction in order; a read of a whole variable is one of all of its parts."""
    instructions = list(dis.get_instructions(code))
    found = [list(_of_instruction(code, instructions, i, functions)) for i in range(len(instructions))]
    parts: dict[str, set[Part]] = {}
    for access in (access for accesses in found for access in accesses):
        parts.setdefault(access.part[0], set()).add(access.part)
    return [[each for access in accesses for each in _spread(access, parts)] for accesses in found]


def _spread(access: Access, parts: Mapping[str, set[Part]]) -> list[Access]:
    name, part = access.part
    return [access] if access.writes or part else [access, *(Access(False, each) for each in parts[name])]


def _of_instruction(
    code: CodeType, instructions: Sequence[dis.Instruction], index: int, functions: Mapping[str, CodeType]
) -> Iterator[Access]:
    instruction = instructions[index]
    if isinstance(instruction.argval, CodeType):
        yield from _of_function(instruction.argval)
    uses = _uses(code, instruction)
    for place, (does, name) in enumerate(uses):
        if does != "LOAD":
            yield Access(True, (name, ""), binds=True)
            continue
        outside = name in code.co_freevars or instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        following = instructions[index + 1 : index + 6] if place + 1 == len(uses) else ()
        yield from _of_read(code, name, following, outside)
        if name in functions:
            yield from _of_function(functions[name])


def _uses(code: CodeType, instruction: dis.Instruction) -> list[tuple[str, str]]:
    """Return (LOAD, STORE or DELETE, variable) of an instruction, several of one that does several things."""
    does = [match.group(1) for match in VARIABLE.finditer(instruction.opname)]
    if not does or instruction.opname == "LOAD_FAST_AND_CLEAR":  # of a comprehension, which puts it back
        return []
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    cells = {*code.co_cellvars, *code.co_freevars} if instruction.opname.startswith("LOAD_FAST") else set()
    return [(do, name) for do, name in zip(does, names, strict=True) if do != "LOAD" or name not in cells]


def _of_function(code: CodeType) -> Iterator[Access]:
    """Yield the accesses of a call of a function that is defined inside: to the variables that it shares."""
    graph = _Graph(code, _accesses(code, {}))
    shared, first = set(code.co_freevars), (0, False)
    live = {part for part in graph.live_in(first) if part[0] in shared}
    yield from (Access(False, part) for part in live)
    for access in {access for node in graph.reachable(first) for access in graph.accesses[node[0]]}:
        if access.writes and access.part[0] in shared:
            yield access if access.part not in live else Access(False, access.part, access.binds)


def _of_read(code: CodeType, name: str, following: Sequence[dis.Instruction], outside: bool) -> Iterator[Access]:
    """Yield what is done with a variable that has just been read, as the next instructions show."""
    if not following:
        yield Access(False, (name, ""))
        return
    first, *rest = following
    if _calls_method(first):
        if any(word in first.argval.lower() for word in RENEWS) or first.argval in FILLS:
            yield Access(True, (name, ""))
        elif first.argval not in (PUTS if outside else APPENDS):
            yield Access(False, (name, ""))
    elif _is_out(code, first):
        yield Access(True, (name, ""))
    elif first.opname in ("LOAD_ATTR", "STORE_ATTR", "DELETE_ATTR"):
        yield Access(first.opname != "LOAD_ATTR", (name, f".{first.argval}"))
    elif first.opname == "COPY" and first.arg == 1 and rest and rest[0].opname == "LOAD_ATTR":
        yield Access(False, (name, f".{rest[0].argval}"))
    elif first.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
        yield from _of_item(name, first.argval, [each for each in rest if each.opname != "COPY"])
    else:
        yield Access(False, (name, ""))


def _of_item(name: str, key: object, rest: Sequence[dis.Instruction]) -> Iterator[Access]:
    """Yield the access to the item `key` of a variable, or to all of it where its whole slice is set or deleted."""
    does = rest[0].opname if rest else ""
    if does == "BINARY_SUBSCR" or (does == "BINARY_OP" and rest[0].argrepr == "[]"):
        if not (rest[1:] and _appends(rest[1])):
            yield Access(False, (name, f"[{key!r}]"))
        return
    if does in SETS:
        yield Access(True, (name, "" if key == slice(None) else f"[{key!r}]"))
        return
    slices = [each.opname for each in rest[:3]]
    ends = slices[:2] == ["LOAD_CONST", "STORE_SLICE"] or (slices[1:2] == ["BUILD_SLICE"] and slices[2] in SETS)
    yield Access(key is None and ends, (name, ""))


def _appends(instruction: dis.Instruction) -> bool:
    return _calls_method(instruction) and instruction.argval in APPENDS


def _is_out(code: CodeType, instruction: dis.Instruction) -> bool:
    """True where the variable before is the last argument of a call, `out=`, which is filled."""
    names = code.co_consts[instruction.arg or 0] if instruction.opname in ("KW_NAMES", "LOAD_CONST") else ()
    return isinstance(names, tuple) and names[-1:] == ("out",)


def _calls_method(instruction: dis.Instruction) -> bool:
    if instruction.opname == "LOAD_METHOD":
        return True
    method = sys.version_info >= (3, 12) and instruction.opname == "LOAD_ATTR"
    return method and bool((instruction.arg or 0) & 1)
