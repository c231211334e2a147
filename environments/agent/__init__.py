"""The agent: what runs on a target.

Standard library alone, Python 3.6 or newer, packed as one file by `pack.py` and sent over the studio's
stream. Modules import
each other relatively, because the packed program's package is called `runstead_agent`.
"""
