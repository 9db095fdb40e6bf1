"""Which types a search by patient brings, and which only the references to them lead to.

Source: FHIR R4, the search parameters of each type: `patient` where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exports.errors import FhirloomError

OFFERED: Final = (
    "Patient",
    "AllergyIntolerance",
    "CarePlan",
    "CareTeam",
    "Condition",
    "Coverage",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Goal",
    "Immunization",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Procedure",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
    "Specimen",
    "Medication",
    "Location",
    "Organization",
    "Practitioner",
    "PractitionerRole",
)
"""What is asked for where nobody names types: those of US Core, and medication as it is given."""

REFERENCED: Final = frozenset(
    """
    HealthcareService Location Medication Organization Practitioner PractitionerRole Substance
    """.split()  # noqa: SIM905 - a list to read
)
"""Types that belong to no patient: of them, what a patient's resources refer to is read."""

BY_PATIENT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        """
        Account AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic BodyStructure
        CarePlan CareTeam ChargeItem Claim ClaimResponse ClinicalImpression Communication
        CommunicationRequest Composition Condition Consent Contract Coverage
        CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceRequest
        DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter
        EnrollmentRequest EpisodeOfCare ExplanationOfBenefit FamilyMemberHistory Flag Goal
        GuidanceResponse ImagingStudy Immunization ImmunizationEvaluation
        ImmunizationRecommendation Invoice List MeasureReport Media MedicationAdministration
        MedicationDispense MedicationRequest MedicationStatement MolecularSequence NutritionOrder
        Observation Person Procedure Provenance QuestionnaireResponse RelatedPerson RequestGroup
        ResearchSubject RiskAssessment ServiceRequest Specimen SupplyDelivery Task
        VisionPrescription
        """.split(),  # noqa: SIM905 - a list to read
        "patient",
    ),
    "AdverseEvent": "subject",
    "Patient": "_id",
}
"""The parameter that narrows a type to patients."""


def check_types(types: tuple[str, ...]) -> None:
    """Raise `FhirloomError` (bad-input) for a type that no patient leads to."""
    for name in types:
        if name not in BY_PATIENT and name not in REFERENCED:
            raise FhirloomError(
                "bad-input",
                f"No patient leads to {name}, so searching by patient can't bring it",
                where="types",
                fix="Leave it out, or export it in bulk.",
            )
