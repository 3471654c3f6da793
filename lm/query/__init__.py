"""Questions to the language model: which strings of a pattern it gives what probability, best first or sampled."""

from lm.query.model import QueryModel, open_query_model
from lm.query.planning import Plan, plan
from lm.query.query import Answer, Query, QueryError, QueryTooLargeError
from lm.query.strategies import search, summed_log_prob

__all__ = [
    "Answer",
    "Plan",
    "Query",
    "QueryError",
    "QueryModel",
    "QueryTooLargeError",
    "open_query_model",
    "plan",
    "search",
    "summed_log_prob",
]
