"""Every fault and habit of servers that the sandbox can imitate, by name: the one table of them.

What a client does with all of them is tested against this table, and the page of the
documentation that tells of them is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exports.sandbox.mischief.bodies import BODIES
from exports.sandbox.mischief.connections import CONNECTIONS
from exports.sandbox.mischief.exchange import Fault
from exports.sandbox.mischief.kick_offs import KICK_OFFS
from exports.sandbox.mischief.login import LOGIN
from exports.sandbox.mischief.manifests import MANIFESTS
from exports.sandbox.mischief.pages import PAGES
from exports.sandbox.mischief.statuses import ENDS, STATUSES
from exports.sandbox.mischief.urls import URLS

_PROTOCOL: Final = (*LOGIN, *KICK_OFFS, *STATUSES, *ENDS)
_FILES: Final = (*MANIFESTS, *PAGES, *URLS, *BODIES, *CONNECTIONS)
FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in (*_PROTOCOL, *_FILES)}
"""By name, in the order in which they act: an earlier one is nearer to the server's own answer."""
