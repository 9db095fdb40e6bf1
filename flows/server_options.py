"""The options that name a server, what is asked of it, and as whom; one for each setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

EDITIONS: Final = ("STU1", "STU2", "STU3", "STU4")
VENDORS: Final = ("epic", "oracle-health", "athenahealth", "hapi", "generic")


def _commas(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    """Names that may be repeated, comma-separated, or both."""
    return tuple(name.strip() for each in given for name in each.split(",") if name.strip())


def _several(*names: str, help: str, metavar: str, commas: bool = True) -> Callable[..., Any]:  # noqa: A002 - click's own word
    callback = _commas if commas else None
    return click.option(*names, multiple=True, metavar=metavar, help=help, callback=callback)


WHERE: Final = (
    click.option("--server", "url", metavar="URL", help="FHIR base URL of a real server."),
    click.option(
        "--source",
        "method",
        type=click.Choice(["bulk", "search"]),
        help="By $export, or by FHIR search where a server has none.  [bulk]",
    ),
    click.option("--vendor", type=click.Choice(VENDORS), help="Whose habits.  [as it tells]"),
    click.option(
        "--edition",
        type=click.Choice(EDITIONS),
        help="Of Bulk Data Access.  [as its CapabilityStatement tells]",
    ),
)
WHAT: Final = (
    click.option(
        "--level",
        type=click.Choice(["patient", "system"]),
        help="All patients, or all that the server has.  [patient]",
    ),
    click.option("--group", metavar="ID", help="Export this Group's patients, not all."),
    _several("--type", "types", metavar="TYPES", help="Resource types."),
    click.option("--since", metavar="TIME|auto", help="What changed since; auto: the last time."),
    click.option("--until", metavar="TIME", help="What changed before."),
    _several(
        "--type-filter",
        "type_filters",
        metavar="SEARCH",
        commas=False,
        help="Like Observation?category=laboratory.",
    ),
    _several("--elements", metavar="NAMES", help="Root elements: status, or Observation.status."),
    _several("--patient", "patient_ids", metavar="IDS", help="Only these patients."),
    _several("--associated-data", metavar="CODES", help="Like LatestProvenanceResources."),
    click.option("--organize-by", metavar="TYPE", help="Let files be organized by, say, Patient."),
    click.option("--partial-manifests", is_flag=True, help="Let the server page its manifest."),
    click.option(
        "--allow-wider",
        is_flag=True,
        help="Where the server rejects a narrowing parameter, take more and narrow it here.",
    ),
    click.option("--everything", is_flag=True, help="More than the features in use need."),
)
HOW: Final = (
    click.option("--fresh", is_flag=True, help="Ask the server for a new export."),
    click.option(
        "--full-every",
        metavar="DAYS",
        type=click.IntRange(1),
        help="With --since auto, where deletions are not reported.  [30]",
    ),
    click.option("--parallel", type=click.IntRange(1, 16), help="Downloads at once.  [4]"),
    click.option("--policy", metavar="KIND=warn|fail,...", help="What a disagreement is."),
)
AS_WHOM: Final = (
    click.option("--client-id", metavar="ID", help="As registered for SMART Backend Services."),
    click.option("--key", metavar="FILE", help="The client's private key (PEM, JWK or JWKS)."),
    _several("--scope", "scopes", metavar="SCOPES", commas=False, help="Instead of our choice."),
    click.option("--token-url", metavar="URL", help="Where the server does not tell it."),
    click.option("--user", metavar="NAME", help="Basic authentication, with --password-file."),
    click.option("--password-file", metavar="FILE", help="Holds the password."),
    click.option("--bearer-file", metavar="FILE", help="Holds a token; read for each request."),
)
BY_WHICH_WAY: Final = (
    click.option(
        "--proxy",
        metavar="URL|FILE",
        help="An HTTP proxy; a file that holds its URL, where that has a password."
        "  [as the environment says]",
    ),
    click.option("--ca", metavar="FILE", help="Certificates to trust (PEM).  [the system's]"),
    click.option("--certificate", metavar="FILE", help="Client certificate (PEM), mutual TLS."),
    click.option("--certificate-key", metavar="FILE", help="Its key, where kept apart."),
    click.option("--plain-http", is_flag=True, help="Let records cross the network in clear."),
    _several(
        "--file-origin",
        "file_origins",
        metavar="ORIGIN",
        commas=False,
        help="Another origin that may see the token.",
    ),
)
SERVER: Final = WHERE + WHAT + HOW + AS_WHOM + BY_WHICH_WAY
