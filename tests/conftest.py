"""Laws are tried on the same examples in every run: one commit, one result.

`make explore` tries them on new ones.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", print_blob=True, deadline=None)
settings.load_profile("repeatable")
