"""What answers, token ids, routes and samples of scores are worth: pure functions that know no model.

Import from the modules: some of the libraries behind them take a second to load, and few callers need all of them.
"""
