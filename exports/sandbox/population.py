"""The synthetic hospital: FHIR R4 resources patient by patient, and what is true behind them.

Every patient is made from (seed, index) alone, so that any slice of the population can be made
anywhere and a large one streams. Sources: FHIR R4, US Core 6.1.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final

from exports.progress import Progress, silent
from exports.sandbox.annex import Beside
from exports.sandbox.chart import Chart
from exports.sandbox.clock import AS_OF, moment
from exports.sandbox.course import simulate
from exports.sandbox.dirt import soil
from exports.sandbox.disease import Health
from exports.sandbox.elements import Resource
from exports.sandbox.formulary import formulary
from exports.sandbox.particulars import make_particulars
from exports.sandbox.people import make_person
from exports.sandbox.registration import register
from exports.sandbox.rotating import ExportedFiles, RotatingFiles
from exports.sandbox.staff import staff
from exports.sandbox.truth import PlantedIdentifier, Truth, TruthWriter

ENTRY_YEARS: Final = {2018: 35, 2019: 20, 2020: 15, 2021: 15, 2022: 15}


@dataclass(frozen=True)
class Hospital:
    """A hospital: `patients` people grown from `seed`, exported as of a fixed moment."""

    seed: int = 7
    patients: int = 2000
    as_of: datetime = AS_OF


@dataclass(frozen=True)
class PatientRecord:
    """One patient: all resources, copies that arrive in a later file (`late`), and the truth."""

    resources: list[Resource]
    late: list[Resource]
    truth: Truth


def patient_record(hospital: Hospital, index: int) -> PatientRecord:
    """The patient `index` (0 and up), the same whatever `hospital.patients` is."""

    def stream(part: str) -> Random:
        return Random(f"{hospital.seed}:{index}:{part}")  # noqa: S311 - synthetic data

    until = int(hospital.as_of.timestamp())
    life = stream("life")
    year = life.choices(list(ENTRY_YEARS), list(ENTRY_YEARS.values()))[0]
    entry = life.randrange(moment(year) + 86_400, moment(year, 12, 25))
    person = make_person(stream("person"), seed=hospital.seed, index=index, entry=entry)
    health = Health(life, male=person.male, born=person.born, entry=entry, until=until)
    course = simulate(life, health, entry, until)
    house = staff(hospital.seed)
    chart = Chart(stream("chart"), person, house, until)
    chart.write(course, health.ailments)
    beside = Beside(
        stream,
        person,
        make_particulars(stream("particulars"), person),
        house,
        formulary(hospital.seed),
        course,
        health.ailments,
        chart.contacts,
        until,
    )
    papers = beside.complete(chart.resources[0])
    given_up = register(stream("registration"), person.id, chart.resources)
    annex = beside.write(chart.resources)
    soiled = soil(stream("dirt"), person, chart.resources)
    further = soil(stream("dirt of the annex"), person, annex.resources)
    former = [PlantedIdentifier(person.id, "R", "Patient.id", given_up, given_up)] * bool(given_up)
    return PatientRecord(
        soiled.resources + further.resources,
        soiled.late + further.late,
        Truth(
            tuple(chart.risks),
            (
                *chart.identifiers,
                *papers,
                *annex.identifiers,
                *soiled.identifiers,
                *further.identifiers,
                *former,
            ),
        ),
    )


def hospital_resources(hospital: Hospital) -> list[Resource]:
    """What all patients share, from the seed alone: the house, its staff, its medicines."""
    return [*staff(hospital.seed).resources, *formulary(hospital.seed).values()]


def write_export(
    hospital: Hospital,
    folder: Path,
    truth: Path,
    *,
    rows_per_file: int,
    progress: Progress = silent,
    view: Callable[[PatientRecord], PatientRecord] = lambda record: record,
) -> ExportedFiles:
    """Write the whole hospital as gzip NDJSON into `folder`, and the truth into `truth`.

    Files are `<type>.<number>.ndjson.gz` of at most `rows_per_file` rows; equal hospitals give
    equal bytes. `view` is what is seen of each patient's record. Memory is bounded by one patient
    and one file's late copies.
    """
    with (
        RotatingFiles(folder, rows_per_file) as files,
        TruthWriter(truth) as truths,
        _uncollected(),
    ):
        for resource in hospital_resources(hospital):
            files.add(resource)
        truths.add(Truth((), staff(hospital.seed).identifiers))
        for index in range(hospital.patients):
            record = view(patient_record(hospital, index))
            for resource in record.resources:
                files.add(resource)
            for resource in record.late:
                files.hold(resource)
            truths.add(record.truth)
            progress(index + 1, hospital.patients, "patients")
    return files.written


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: records have none, and it would walk them every time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
