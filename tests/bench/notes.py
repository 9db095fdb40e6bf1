"""Notes of 2 kB that one core cleans in a second: a part of `python -m tests.bench.deid`.

Each note is a golden one of the tests among sentences of a hospital course, cut to 2048 characters,
no two alike, with some ten identifiers; every patient has four.
What is timed is all that happens to a note once it is text: the patient's
recognizer, Presidio's AnalyzerEngine, and the replacing. The best of several rounds is told, in
seconds of the processor.
"""

from __future__ import annotations

import random
import time
from typing import Final

from deid.notes.replacing import StandIns
from tests.deid.notes.subjects import GOLDEN, OWN, TIMELINE, analyzer, golden

GOAL: Final = 1000.0
SIZE: Final = 2048
OF_ONE: Final = 4
"""Notes of one patient."""
ROUNDS: Final = 5


COURSE: Final = (
    "The patient was admitted to the medical floor and started on intravenous antibiotics.",
    "Blood cultures were drawn and remained negative throughout the hospital stay.",
    "Her oxygen was weaned, and by the third hospital day she was comfortable on room air.",
    "Renal: creatinine peaked at 2.1 and improved to 1.3 with gentle hydration.",
    "She was given Lasix 40 mg IV twice a day with good diuresis, net negative 3.2 liters.",
    "Echocardiogram showed an ejection fraction of 45% with mild mitral regurgitation.",
    "Chest X-ray: small bilateral pleural effusions, no focal consolidation.",
    "Labs: Na 138, K 4.1, Cl 102, BUN 18, glucose 142, WBC 9.8, Hgb 10.4, platelets 231.",
    "Physical therapy evaluated her and recommended a walker and services at home.",
    "She denied chest pain, shortness of breath, nausea, vomiting or abdominal pain.",
    "Vital signs: temperature 98.4, blood pressure 128/74, heart rate 82, respirations 16.",
    "Metoprolol was increased to 50 mg; Coumadin was held for an INR of 3.4 and restarted.",
    "Abdomen soft, non-tender, normal bowel sounds. Extremities: trace edema bilaterally.",
    "The wound was clean, dry and intact, and the Foley catheter was removed.",
    "She will follow up with her primary care physician in one to two weeks.",
    "Neurology was consulted for confusion; CT of the head showed no acute process.",
)


def made(count: int) -> list[str]:
    """Different notes of `SIZE` characters."""
    texts = [golden(path.name).text for path in sorted(GOLDEN.iterdir())]
    draw = random.Random(7)  # noqa: S311 - notes, not secrets
    return [
        "\n".join([draw.choice(texts), *draw.sample(COURSE, len(COURSE)), *COURSE])[:SIZE]
        for _ in range(count)
    ]


def notes_per_second(count: int = 400) -> float:
    """Notes of 2 kB per second and core."""
    analyze, notes = analyzer(), made(count)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for first in range(0, count, OF_ONE):
            own = analyze.knowing(OWN)
            stand_ins = StandIns.of(TIMELINE, OWN)
            for note in notes[first : first + OF_ONE]:
                stand_ins.replace(note, analyze.find(note, own))
        best = min(best, time.process_time() - began)
    return count / best
