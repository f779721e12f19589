"""The Coordinator: events, decisions and keys in pure modules; clock, threads and HTTP in the shell around them."""

__version__ = "0.1.0"
