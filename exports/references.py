"""What a FHIR reference names: the type and the logical id of a resource, in whichever form.

Source: FHIR R4, Reference (2.3.0): relative (`Patient/1`), absolute, of one version
(`Patient/1/_history/2`), or `urn:uuid:`, which does not tell the type. An id that is a UUID is one
whatever its case (RFC 4122, section 3); others are compared as they are. A `#` names what stands
inside the resource itself, and nothing beyond it.

The patterns are those of RE2 as well, so that DuckDB reads references by the same ones.
"""

from __future__ import annotations

import re
from typing import Final

ID: Final = r"[A-Za-z0-9._~\-]+"
"""A logical id: what FHIR allows, and the two characters and the length that some servers add."""
UUID: Final = "(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def key(logical_id: str) -> str:
    """An id in the form in which ids are compared: a UUID in lower case, any other as it is."""
    return logical_id.lower() if re.fullmatch(UUID, logical_id) else logical_id


def pattern(resource_type: str) -> str:
    """The pattern of a reference to a resource of a type; its one group is the id."""
    return rf"(?:(?:^|/){resource_type}/|^(?i:urn:uuid:))({ID})(?:/_history/[^/]+)?$"


def referenced(reference: object, resource_type: str) -> str:
    """The key of the resource of that type that a reference names; "" where it names none."""
    if not isinstance(reference, str) or reference.endswith("\n"):
        return ""
    match = re.search(pattern(resource_type), reference)
    return key(match[1]) if match else ""
