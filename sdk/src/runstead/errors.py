"""What can go wrong, in two kinds: what the caller can mend, and the rest."""


class RunsteadError(Exception):
    """Something did not work. The text says what, and what to try."""


class UserError(RunsteadError, ValueError):
    """The call itself is wrong: the text names the argument, the rule and the fix."""
