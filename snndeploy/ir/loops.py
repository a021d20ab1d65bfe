"""Which ops lie on a loop through delayed edges, and which need no stepping.

A strongly connected component of the graph, delayed edges included, is a loop body if it holds a cycle.
Everything outside loop bodies can be computed for all time steps at once, as a larger batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from snndeploy.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Component:
    """Ops computed together: one op for all time steps at once, or a loop body step by step.

    ops: Names in the order one time step computes them.
    is_loop: Whether they must be stepped.
    """

    ops: tuple[str, ...]
    is_loop: bool


def components(graph: Graph) -> tuple[Component, ...]:
    """The graph's strongly connected components, each after those it depends on."""
    place = {name: index for index, name in enumerate(graph.order)}
    found = []
    for names in _strongly_connected(graph):  # sources last, as Tarjan's algorithm finds them
        ordered = tuple(sorted(names, key=place.__getitem__))
        self_loop = any(e.target == ordered[0] for e in graph.outgoing[ordered[0]])
        found.append(Component(ordered, is_loop=len(ordered) > 1 or self_loop))
    return tuple(reversed(found))


def _strongly_connected(graph: Graph) -> list[list[str]]:
    """Tarjan's algorithm (SIAM J. Comput. 1(2), 1972) without recursion, targets before sources."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in graph.order:
        work = [] if root in number else [(root, iter(graph.outgoing[root]))]
        while work:
            name, edges = work[-1]
            if name not in number:
                number[name] = lowest[name] = len(number)
                stack.append(name)
                on_stack.add(name)
            for edge in edges:
                if edge.target not in number:
                    work.append((edge.target, iter(graph.outgoing[edge.target])))
                    break
                if edge.target in on_stack:
                    lowest[name] = min(lowest[name], number[edge.target])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    members = stack[stack.index(name) :]
                    del stack[stack.index(name) :]
                    on_stack.difference_update(members)
                    found.append(members)
    return found
