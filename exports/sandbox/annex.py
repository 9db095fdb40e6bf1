"""What is filed beside a patient's chart: papers and people, and all that follows from visits.

It has streams of its own and is written after the chart, which stays as it is but for what is said
here in so many words: particulars of the Patient, medications by reference, grime.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from exports.sandbox.course import Course
from exports.sandbox.devices import find_implants, implant
from exports.sandbox.disease import Ailment
from exports.sandbox.elements import Resource
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.formulary import refer_orders
from exports.sandbox.grime import begrime
from exports.sandbox.insurance import insure, register_relatives
from exports.sandbox.laboratory import report_panels
from exports.sandbox.medicines import administer, dispense, report
from exports.sandbox.particulars import Particulars
from exports.sandbox.patient_file import complete_patient
from exports.sandbox.people import Person
from exports.sandbox.planning import plan
from exports.sandbox.prevention import ask_allergies, vaccinate
from exports.sandbox.staff import Staff
from exports.sandbox.truth import PlantedIdentifier
from exports.sandbox.writing import write_notes


@dataclass(frozen=True)
class Beside:
    """What a patient's annex is made of: `stream` gives it the draws of a part by its name."""

    stream: Callable[[str], Random]
    person: Person
    particulars: Particulars
    staff: Staff
    shelf: dict[str, Resource]
    course: Course
    ailments: tuple[Ailment, ...]
    contacts: list[Contact]
    until: int

    def complete(self, patient: Resource) -> list[PlantedIdentifier]:
        """Complete the Patient resource in place."""
        return complete_patient(self.stream("papers"), self.person, self.particulars, patient)

    def write(self, chart: list[Resource]) -> Filing:
        """Change the chart in place, and write what stands beside it."""
        death = self.course.death
        last = self.until if death is None else death
        filing = Filing(self.stream("annex"), self.person, last=last, until=self.until)
        particulars = self.particulars
        orders = [each for each in chart if each["resourceType"] == "MedicationRequest"]
        refer_orders(filing, self.shelf, orders)
        if self.contacts:
            first = self.contacts[0]
            register_relatives(filing, first, particulars)
            insure(filing, first, particulars)
            ask_allergies(filing, first, particulars)
            find_implants(filing, first, self.ailments)
            report(filing, self.shelf, first, self.ailments, particulars)
        for contact in self.contacts:
            self._visit(filing, contact, particulars)
        filing.identifiers += begrime(self.stream("grime"), self.person, particulars, chart)
        return filing

    def _visit(self, filing: Filing, contact: Contact, particulars: Particulars) -> None:
        visit = contact.visit
        report_panels(filing, contact)
        dispense(filing, contact)
        if visit.inpatient:
            administer(filing, self.shelf, contact)
            implant(filing, contact)
            plan(filing, contact, particulars)
        elif visit.setting == "ambulatory":
            vaccinate(filing, contact)
        write_notes(filing, contact, particulars, self.staff)
