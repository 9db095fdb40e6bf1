"""Every fault and habit of servers that the sandbox can imitate, by name: the one table of them.

What a client does with all of them is tested against this table, and the page of the
documentation that tells of them is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exports.sandbox.mischief.bodies import BODIES
from exports.sandbox.mischief.exchange import Fault
from exports.sandbox.mischief.kick_offs import ENDS, KICK_OFFS, STATUSES
from exports.sandbox.mischief.login import LOGIN
from exports.sandbox.mischief.manifests import MANIFESTS

FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault for fault in (*LOGIN, *KICK_OFFS, *STATUSES, *MANIFESTS, *BODIES, *ENDS)
}
"""By name, in the order in which they act: an earlier one is nearer to the server's own answer."""
