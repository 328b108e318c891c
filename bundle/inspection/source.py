"""What the source in a TorchScript archive may say: a list of operators, and nothing that is called otherwise.

Source is judged by its words, not by its structure, so that nothing depends on where torch's parser and another would
disagree: whatever stands before a bracket is called, and whatever follows `torch.` is an operator.
"""

import keyword
import re
from collections.abc import Mapping
from itertools import accumulate, pairwise, repeat

from bundle.errors import ProgramForbidden
from bundle.manifest import TORCHSCRIPT_FILE
from bundle.operations import Method

__all__ = ["METHODS", "OPERATORS", "check_source"]

OPERATORS = frozenset(
    {
        # arithmetic, value by value
        *("abs", "add", "clamp", "clamp_min", "div", "exp", "gt", "log", "maximum", "minimum", "mul", "pow", "sign"),
        *("square", "sub", "where"),
        # activations
        *("relu", "sigmoid", "silu", "softplus", "tanh"),
        # layers
        *("_convolution", "group_norm", "layer_norm", "linear", "matmul", "t"),
        # along a row
        *("amin", "linalg_vector_norm", "mean", "sum", "topk"),
        # the shape of rows, and which part of them
        *("cat", "expand", "expand_as", "flatten", "permute", "reshape", "scatter", "select", "size", "slice"),
        *("stack", "unflatten", "unsqueeze", "view", "zeros_like"),
    }
)
"""What programs may call as `torch.NAME`, all that our networks and scores need: functions of tensors and nothing else.
None draws, none knows of a file, a process or a thread, and none gives memory that nobody has written."""

METHODS = re.compile(r"forward\d*|" + "|".join(sorted(Method)))
"""What a program may define, and call of its own. None is the name of an operator too, and none is run by torch while
it loads, as `__setstate__` would be."""

# An attribute by a name that is no word, and a size as a number; then the same as a tensor.
CONVERSIONS = frozenset({"getattr", "int"})
AS_TENSOR = ["ops", ".", "prim", ".", "NumToTensor"]

KEYWORDS = frozenset({"class", "def", "return", "None", "True", "False"})  # a trace neither branches nor loops
PLAIN = r'[A-Za-z_]\w*|->|[()\[\],.:=\-\n]|\d+(?:\.\d*)?(?:e[+-]?\d+)?|"[\w.]+"'
PLAIN_TOKEN = re.compile(PLAIN, re.ASCII)
TOKEN = re.compile(rf'{PLAIN}|"[^"\n]*"|[^ ]', re.ASCII)  # a string that is not plain is named as what it is
TELLING = frozenset({"(", "torch", "class"}) | CONVERSIONS

# For every bracket, dot and minus torch's parser goes a level down, without end: it runs out of stack and crashes.
DEPTHS = {"(": 1, "[": 1, ")": -1, "]": -1}
MOST_NESTED = 32
MOST_TOKENS = 8192


def check_source(sources: Mapping[str, bytes]) -> set[str]:
    """The qualified names of the classes that `sources`, by path, define. Raises ProgramForbidden, which says what and
    where, for anything but what a trace of our networks is written with."""
    words = {
        path: ["\n", *TOKEN.findall(content.decode("ascii", "replace")), *"\n\n\n"] for path, content in sources.items()
    }
    classes = set()
    for path, tokens in words.items():
        where = f"{path} in {TORCHSCRIPT_FILE}"
        module = path.removeprefix("code/").removesuffix(".py").replace("/", ".")
        _check_nesting(tokens, where=where)
        for i in [i for i, token in enumerate(tokens) if token in TELLING]:
            if tokens[i] == "(":
                _check_call(tokens, i, where=where)
            elif tokens[i] == "torch":
                _check_torch(tokens, i, where=where)
            elif tokens[i] == "class":
                if tokens[i + 2 : i + 5] != ["(", "Module", ")"]:
                    raise ProgramForbidden(f"{where} defines {tokens[i + 1][:100]!r}, which is no Module")
                classes.add(f"{module}.{tokens[i + 1]}")
            elif tokens[i + 1] != "(":
                raise ProgramForbidden(f"{where} gives {tokens[i]} another meaning")
    # Last, for what was found so far is said better; all of it holds only if nothing but plain words is left.
    strange = [
        token
        for token in set().union(*words.values())
        if not PLAIN_TOKEN.fullmatch(token) or (keyword.iskeyword(token) and token not in KEYWORDS)
    ]
    if strange:
        raise ProgramForbidden(
            f"the code in {TORCHSCRIPT_FILE} has {min(strange)[:100]!r}, which no program of ours has"
        )
    return classes


def _check_nesting(tokens: list[str], *, where: str) -> None:
    depths = list(accumulate(map(DEPTHS.get, tokens, repeat(0))))
    ends = [i for i, token in enumerate(tokens) if token == "\n" and depths[i] <= 0]
    longest = max(end - start for start, end in pairwise([*ends, len(tokens)]))
    if max(depths) > MOST_NESTED or longest > MOST_TOKENS:
        raise ProgramForbidden(f"{where} nests deeper, or has a longer statement, than any program of ours")


def _check_call(tokens: list[str], i: int, *, where: str) -> None:
    """Returns when the bracket at `i` groups, belongs to a definition, or follows what may be called."""
    called, before = tokens[i - 1], tokens[i - 2]
    groups = called == "return" or not (called[-1] in ')]"' or called[0].isalnum() or called[0] == "_")
    operator = before == "." and tokens[i - 3] == "torch" and tokens[i - 4] != "."  # _check_torch knows which
    converts = called in CONVERSIONS and before not in {".", "def", "class"}
    number = tokens[i - 5 : i] == AS_TENSOR and tokens[i - 6] != "."
    own = before in {".", "def"} and METHODS.fullmatch(called)
    if groups or operator or converts or number or own or before == "class":
        return
    start = i - 1
    while start > 1 and tokens[start - 1] == ".":
        start -= 2
    name = "".join(tokens[start:i])[:100]
    raise ProgramForbidden(f"{where} {'defines' if before == 'def' else 'calls'} {name}, which is not allowed")


def _check_torch(tokens: list[str], i: int, *, where: str) -> None:
    """Returns when the word `torch` at `i` is part of a name of ours, or calls an operator that is allowed."""
    after = tokens[i + 1 : i + 4]
    if tokens[i - 1] == "." and after[:2] == [".", "classes"]:
        raise ProgramForbidden(f"{where} names a class of C++, torch.classes, which is not allowed")
    if tokens[i - 1] != "." and (after[0] != "." or after[2] != "(" or after[1] not in OPERATORS):
        name = f"torch.{after[1][:100]}" if after[0] == "." else "torch"
        raise ProgramForbidden(f"{where} uses the operator {name}, which is not allowed")
