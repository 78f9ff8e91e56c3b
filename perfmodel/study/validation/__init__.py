"""Validation: predict every row of a table of measurements and score the predictions.

``lines`` has the vocabulary, ``scoring`` the statistics, ``tables`` reads and filters the input, and there is one
module of predictors per kind of table. Only what the columns of a row say enters its prediction.
"""
