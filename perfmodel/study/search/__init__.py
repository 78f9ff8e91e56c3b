"""Searches: which strategy, on which machine, for these objectives and within these limits."""

from perfmodel.study.search.answer import SearchResult, search

__all__ = ["SearchResult", "search"]
