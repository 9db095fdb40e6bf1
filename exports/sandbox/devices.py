"""Implanted devices, each with its serial number and Unique Device Identifier.

Source: 21 CFR 830 and the GS1 form of a UDI: (01) model, (17) expiry, (10) lot, (21) serial number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exports.sandbox.catalog import listing
from exports.sandbox.clock import HOUR, YEAR, local, local_date
from exports.sandbox.disease import Ailment
from exports.sandbox.elements import LOCAL, Resource, coding, new_id
from exports.sandbox.filing import Contact, Filing

IMPLANTED: Final = 0.8
"""Of procedures that leave a device: those whose device is on record."""
PACED: Final = 0.12
"""Of patients with a disease that a device treats: those who have one at their first visit."""


def implant(filing: Filing, contact: Contact) -> None:
    """Devices left by a visit's procedures."""
    done = {each["code"]["coding"][0]["code"]: each for each in contact.of("Procedure")}
    for row in listing("devices"):
        if row["procedure"] in done and filing.rng.random() < IMPLANTED:
            _file(filing, row, min(contact.visit.end, contact.visit.start + 30 * HOUR))


def find_implants(filing: Filing, contact: Contact, ailments: tuple[Ailment, ...]) -> None:
    """Devices that a patient brings along."""
    at = contact.visit.start
    have = {ailment.disease.key for ailment in ailments if ailment.since <= at}
    for row in listing("devices"):
        if row["disease"] in have and filing.rng.random() < PACED:
            _file(filing, row, at + HOUR // 4)


def _file(filing: Filing, row: Mapping[str, str], at: int) -> None:
    rng = filing.rng
    serial = f"{rng.choice('CDHKMPV')}{rng.choice('ABEFG')}{rng.randrange(3 * 10**9, 10**10)}"
    lot = f"L{rng.randrange(1000, 9999)}"
    expires = local_date(at + int(rng.uniform(1, 4) * YEAR))
    udi = f"(01){row['model']}(17){expires[2:].replace('-', '')}(10){lot}(21){serial}"
    resource: Resource = {
        "resourceType": "Device",
        "id": new_id(rng),
        "udiCarrier": [{"deviceIdentifier": row["model"], "carrierHRF": udi}],
        "status": rng.choices(["active", "inactive", "entered-in-error"], [95, 4, 1])[0],
        "manufacturer": row["maker"],
        "manufactureDate": local(at - int(rng.uniform(0.2, 2) * YEAR)),
        "expirationDate": expires,
        "lotNumber": lot,
        "serialNumber": serial,
        "type": {"coding": [coding(LOCAL, row["local"], row["display"])], "text": row["display"]},
    }
    if filing.add(resource, at + rng.randrange(1, 8) * HOUR, happens=at, owner="patient"):
        filing.plant(
            resource,
            [
                ("M", "serialNumber", serial),
                ("M", "udiCarrier[0].carrierHRF", udi),
                ("R", "id", resource["id"]),
            ],
        )
