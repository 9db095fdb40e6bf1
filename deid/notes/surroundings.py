"""What around a capitalised word makes a name of it (cues, credentials), or an eponym."""

from __future__ import annotations

import re
from typing import Final

import re2

from deid.notes.pattern_recognizer import latin_options

PERSON, CLINICIAN, KIN, PLACE = "PERSON", "CLINICIAN", "KIN", "PLACE"
"""The roles that a name can have."""

_CUES: Final = (
    (
        CLINICIAN,
        True,
        r"dr|drs|doctor|doctors|prof|professor|nurse|attending|fellow|resident|intern|surgeon|"
        r"hospitalist|cardiologist|oncologist|neurologist|pcp|pharmacist|therapist|"
        r"psychiatrist|nephrologist|pulmonologist|urologist|radiologist|pathologist|"
        r"anesthesiologist|midwife|case manager|social worker",
    ),
    (
        PERSON,
        True,
        r"mr|mrs|ms|miss|mister|mssrs|messrs|sr|sra|senora|madam|master|baby|rev|reverend|"
        r"father|fr|sister|rabbi|pastor|imam|judge|officer|det|detective|sgt|capt|lt|col|gen|"
        r"attorney|atty",
    ),
    (
        KIN,
        False,
        r"son|daughter|wife|husband|spouse|mother|father|mom|dad|brother|sister|niece|nephew|"
        r"aunt|uncle|cousin|grandson|granddaughter|grandmother|grandfather|friend|girlfriend|"
        r"boyfriend|fiance|fiancee|partner|neighbou?r|roommate|guardian|proxy|hcp|kin|caregiver|"
        r"stepson|stepdaughter|stepmother|stepfather|sister-in-law|brother-in-law|son-in-law|"
        r"daughter-in-law|emergency contact|next of kin|nok|poa|power of attorney|landlord|boss",
    ),
    (
        CLINICIAN,
        False,
        r"seen by|signed by|signed|dictated by|dictating|transcribed by|reviewed by|approved by|"
        r"performed by|interpreted by|read by|verified by|referred by|ordered by|authored by|"
        r"written by|prepared by|reported by|discussed with|d/w|spoke with|spoke to|called|paged|"
        r"per|cc|attn|attention|from|to|dear|author|surgeons?|assistants?|anesthesia|anesthetist|"
        r"provider|physician|consultant|referring|attending physician|primary care|pcp|"
        r"reporting|electronically signed|cosigned|co-signed|e-signed|by|with|under|colleague|"
        r"thank you|thanks|sincerely|regards|yours",
    ),
    (
        PERSON,
        False,
        r"patient|pt|name|names|re|regarding|member|client|known as|aka|a\.k\.a|called|named|nee|"
        r"maiden name|alias|goes by|surname|last name|first name|given name|family name|"
        r"nickname|preferred name|subject|spouse name|father's name|mother's name|employer",
    ),
)
_STRONG_GAP: Final = r"(?:\.?[ ,:]{1,3}|\.)"
_WEAK_GAP: Final = r"(?: (?:is|was|named|called|name|of|the))?[ ]?[.:,(/-]{0,2}\s{0,12}"
CUE: Final = tuple(
    (
        role,
        strong,
        re2.compile(
            rf"\b(?i:{words})(?:{_STRONG_GAP if strong else _WEAK_GAP})\n?[ ]{{0,4}}[A-Z]".encode(),
            latin_options(),
        ),
    )
    for role, strong, words in _CUES
)
CREDENTIAL: Final = re.compile(
    rb"(?:[ ]?,[ ]?|[ ])(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|P\.?A\.?-?C?|Ph\.?[ ]?D\.?|"
    rb"PHD|L\.?P\.?N\.?|"
    rb"D\.?P\.?M\.?|D\.?D\.?S\.?|D\.?M\.?D\.?|FACS|FACC|FACP|LICSW|LCSW|MSW|RPh|Pharm\.?D\.?|CRNA|CNM|CNS|"
    rb"APRN|ARNP|FNP|DNP|BSN|MSN|MBBS|MPH|Esq|DPT|OTR|CCC|SLP|RT|RD|CNA|Psy\.?D|EMT|PGY)(?![A-Za-z])"
)
COMMA_NEEDED: Final = frozenset({b"DO", b"PA", b"RT", b"RD", b"NP", b"CNS"})
_DISEASES: Final = (
    r"disease|syndromes?|signs?|catheter|palsy|lymphoma|sarcoma|tumou?r|cysts?|contracture|"
    r"thyroiditis|esophagus|phenomenon|maneuver|fracture|fx|classification|ulcers?|nodules?|"
    r"reflex|spots?|nails?|tremor|gait|chorea|dementia|encephalopathy|aphasia|lactate|ducts?|"
    r"glands?|ligament|aneurysm|membrane|fascia|hernia|diverticul\w+|malformation|anomaly|"
    r"deformity|tetralogy|murmur|proteins?|proteinuria|granulomatosis|purpura|an[ae]mia|"
    r"neuralgia|neuroma|dystrophy|ataxia|atrophy|arthritis|crisis|hematoma|gangrene|"
    r"nephropathy|ophthalmopathy|retinopathy|fistula|anastomosis|resection|reconstruction|"
    r"osteotomy|arthroplasty|lobectomy|fundoplication|stimulation|agglutinin|antigen|"
    r"antibod(?:y|ies)|bacillus|esophagitis|sclerosis|nystagmus|facies|papules?|melanoma|"
    r"carcinoma|chemotherapy|mitral|maneuvers|contractions?"
)
_THINGS: Final = (
    r"tests?|procedure|scores?|scale|criteria|index|drains?|tubes?|lines?|port|bag|pouch|"
    r"nodes?|area|position|retractors?|clamps?|forceps|scissors|needles?|stitch|sutures?|"
    r"incision|approach|repair|operation|technique|method|stain|medium|solution|ratio|"
    r"coefficient|respirations?|breathing|rings?|bod(?:y|ies)|cells?|fibers?|stage|grade|"
    r"canal|muscle|nerve|angle|points?|triangle|space|complex|block|waves?|pulse|knot|"
    r"monitor|pressure|lamp|chart|class|level|equation|formula|rule|curve|splint|boots?|"
    r"brace|collar|frame|bandage|wraps?|dressings?|surgery|valve|graft|stent|filter|clips?|"
    r"screws?|nailing|plates?|rods?|pins?|wires?|prosthesis|implant|shunt|hook|laryngoscope|"
    r"blade|airway|mask|cannula|trocar|speculum|exercises?|diet|protocol|virus|hormone|"
    r"crystals|body|macula|pupils?|sinus|node|plaques?|lesion|regimen|equivalent|scan|view|"
    r"inventory|questionnaire|depression"
)
"""What the clinic names after people: diseases and signs after anyone, things after few."""
_BEFORE_NOUN: Final = r"(?:'?s?'?)(?:[- ]+(?:[A-Z][A-Za-z]+'?s?[- ]+){0,2}|[ ]?/[ ]?)"
OF_ANYONE: Final = re.compile(rf"{_BEFORE_NOUN}(?i:{_DISEASES})(?![A-Za-z])".encode())
OF_FEW: Final = re.compile(rf"{_BEFORE_NOUN}(?i:{_THINGS})(?![A-Za-z])".encode())
