"""YAML as plain values, of a size and depth that a person could have written."""

from typing import Any

import yaml

LARGEST = 100_000  # values, each use of an alias counted anew
DEEPEST = 50
TOO_DEEP = f"nested deeper than {DEEPEST}"


def parse_yaml(text: str) -> Any:
    """Read YAML with the safe loader. Raises ValueError, in one line, for anything that is none.

    Aliases (`*name`) stand for what they name, so a few lines of them can stand for more values than memory holds:
    the values are counted before any is made.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # Beside its own errors, the loader passes on those of int(), float() and datetime.
        raise ValueError(" ".join(str(error).split())) from None


def _check(top: yaml.Node) -> None:
    """Raise ValueError where there are too many values, or they are nested too deep."""
    known: dict[int, tuple[int, int]] = {}  # node -> values, levels

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) not in known:
            known[id(node)] = (LARGEST + 1, 0)  # what it has while it is measured: an alias within what it names
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            below = [measure(child) for part in parts for child in (part if isinstance(part, tuple) else (part,))]
            values, levels = zip(*below) if below else ((), ())
            known[id(node)] = (1 + sum(values), 1 + max(levels, default=0))
        return known[id(node)]

    values, levels = measure(top)
    if values > LARGEST:
        raise ValueError(f"its aliases stand for more than {LARGEST} values")
    if levels > DEEPEST:
        raise ValueError(TOO_DEEP)
