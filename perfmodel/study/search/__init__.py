"""Searches: which strategy, on which machine, for these objectives and within these limits."""

from perfmodel.study.search.answer import search
from perfmodel.study.search.result import Entry, SearchResult

__all__ = ["Entry", "SearchResult", "search"]
