"""Formats of other runtimes: `asr-export TARGET BUNDLE OUT` writes a folder that one of them loads as it is."""
