"""Paths of a decoding graph, found the slow way."""

import math


def accept(graph, labels):
    """Least cost of every word sequence on the graph's paths with these frame labels."""
    beam = close(graph, {(graph.start, ()): 0.0})
    for label in labels:
        reached = {}
        for (state, words), cost in beam.items():
            for arc in graph.arcs[state]:
                if arc.ilabel == label + 1:
                    put(reached, (arc.target, words), cost + arc.cost)
        beam = close(graph, reached)
    return finals(graph, beam)


def best_words(graph, log_probs):
    """Word ids and cost of the best path over frames' log-probabilities (T, V); None where no path ends."""
    beam = best_of_each_state(close(graph, {(graph.start, ()): 0.0}))
    for frame in log_probs.tolist():
        reached = {}
        for (state, words), cost in beam.items():
            for arc in graph.arcs[state]:
                if arc.ilabel:
                    put(reached, (arc.target, words), cost + arc.cost - frame[arc.ilabel - 1])
        beam = best_of_each_state(close(graph, best_of_each_state(reached)))
    return min(finals(graph, beam).items(), key=lambda found: found[1], default=None)


def best_of_each_state(beam):
    """Viterbi: of all words that lead to a state, the cheapest."""
    best = {}
    for (state, words), cost in beam.items():
        if cost < best.get(state, ((), math.inf))[1]:
            best[state] = words, cost
    return {(state, words): cost for state, (words, cost) in best.items()}


def finals(graph, beam):
    """Words of the paths that may end, with the cost of ending."""
    found = {}
    for (state, words), cost in beam.items():
        if graph.final_cost[state] < math.inf:
            put(found, words, cost + graph.final_cost[state])
    return found


def close(graph, beam):
    """The beam with everything that epsilon arcs reach; they have no cycles."""
    pending, closed = list(beam.items()), dict(beam)
    while pending:
        (state, words), cost = pending.pop()
        for arc in graph.arcs[state]:
            if arc.ilabel == 0:
                key = (arc.target, (*words, arc.olabel) if arc.olabel else words)
                if put(closed, key, cost + arc.cost):
                    pending.append((key, cost + arc.cost))
    return closed


def put(costs, key, cost):
    """Keep the lesser cost; whether it is the new one."""
    is_better = cost < costs.get(key, math.inf)
    if is_better:
        costs[key] = cost
    return is_better
