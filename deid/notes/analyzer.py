"""Presidio's AnalyzerEngine with recognizers of ours, and no model unless the operator has one.

Without a model Presidio's engine gets an NLP engine that reads nothing: our recognizers see to the
words around a find themselves. With one, the operator's configuration is Presidio's own
(`NlpEngineProvider`), its models are folders on this disk, and nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine, NlpEngineProvider

from deid.notes.known import Known
from deid.notes.known_recognizer import KnownRecognizer
from deid.notes.lexicon import Lexicon
from deid.notes.name_recognizer import NameRecognizer
from deid.notes.pattern_recognizer import PatternRecognizer
from deid.notes.shadow import squeezed
from deid.notes.spans import Span
from exports.errors import FhirloomError

LANGUAGE: Final = "en"
_OF_MODELS: Final = {"LOCATION": "PLACE", "DATE_TIME": "DATE", "NRP": "", "AGE": "", "ID": "ID"}
"""What models call things, as we call them; empty: not an identifier (45 CFR 164.514(b)(2)(i))."""


class NoModel(NlpEngine):
    """An NLP engine that reads nothing: the recognizers do."""

    engine_name = "none"
    is_available = True

    def load(self) -> None:
        """Nothing to load."""

    def is_loaded(self) -> bool:
        """Always."""
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        """Artifacts without words."""
        return NlpArtifacts([], None, [], [], None, language)  # type: ignore[arg-type]

    def process_batch(
        self,
        texts: Iterable[str],
        language: str,
        batch_size: int = 1,
        n_process: int = 1,
        **options: Any,
    ) -> Iterator[tuple[str, NlpArtifacts]]:
        """Each text with artifacts without words."""
        return ((text, self.process_text(text, language)) for text in texts)

    def is_stopword(self, word: str, language: str) -> bool:
        """None is."""
        return False

    def is_punct(self, word: str, language: str) -> bool:
        """None is."""
        return False

    def get_supported_entities(self) -> list[str]:
        """None."""
        return []

    def get_supported_languages(self) -> list[str]:
        """English."""
        return [LANGUAGE]


class _NoEnhancer(ContextAwareEnhancer):
    """Leaves finds as they are: each recognizer of ours has looked around by itself."""

    def __init__(self) -> None:
        super().__init__(0, 0, 0, 0)

    def enhance_using_context(
        self, text: str, raw_results: list[RecognizerResult], *_: Any, **__: Any
    ) -> list[RecognizerResult]:
        return raw_results


class Analyzer:
    """Finds identifiers in notes; built once, for all the notes of a site."""

    def __init__(
        self, lexicon: Lexicon, everyones: Iterable[Known] = (), model: Path | None = None
    ) -> None:
        self.lexicon = lexicon
        shared = list(everyones)
        staff = frozenset(
            squeezed(item.value.partition("\t")[2])
            for item in shared
            if item.entity == "KNOWN_CLINICIAN"
        )
        recognizers: list[EntityRecognizer] = [
            PatternRecognizer(lexicon),
            NameRecognizer(lexicon, staff),
            KnownRecognizer(shared, lexicon, name="everyone's"),
        ]
        registry = RecognizerRegistry(recognizers, supported_languages=[LANGUAGE])
        engine = NoModel() if model is None else model_engine(model)
        if model is not None:
            registry.add_nlp_recognizer(engine)
        self.engine = AnalyzerEngine(
            registry=registry,
            nlp_engine=engine,
            supported_languages=[LANGUAGE],
            context_aware_enhancer=_NoEnhancer(),
        )

    def knowing(self, known: Iterable[Known]) -> KnownRecognizer:
        """The recognizer of one patient's own identifiers, for all of the patient's notes."""
        return KnownRecognizer(known, self.lexicon, name="the patient's")

    def find(self, text: str, own: KnownRecognizer) -> list[Span]:
        """Everything in the text that identifies, in order; spans may overlap.

        Raises whatever a recognizer raises: such a note must not be released.
        """
        found = self.engine.analyze(text, LANGUAGE, ad_hoc_recognizers=[own])
        spans = {
            Span(result.start, result.end, entity)
            for result in found
            if (entity := _OF_MODELS.get(result.entity_type, result.entity_type))
        }
        return sorted(spans)


def model_engine(config: Path) -> NlpEngine:
    """The NLP engine of a Presidio configuration file (YAML or JSON).

    Raises `FhirloomError` (bad-input) where the file can't be read, where a model is not a folder
    on this disk, and where it can't be loaded.
    """
    try:
        read = yaml.safe_load(config.read_text())
        models = [name for item in read["models"] for name in _paths(item["model_name"])]
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        raise _refused("The configuration of the model can't be read") from None
    if not models or not all(Path(name).is_dir() for name in models):
        # A name instead of a folder would make the engine fetch it.
        raise _refused("A model is not a folder on this disk")
    try:
        return NlpEngineProvider(nlp_configuration=read).create_engine()
    except Exception as error:  # whatever its libraries raise for a model that is none
        raise _refused(f"The model can't be loaded ({type(error).__name__})") from None


def _paths(name: str | dict[str, str]) -> list[str]:
    return [name] if isinstance(name, str) else list(name.values())


def _refused(what: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        what,
        where="--model",
        fix="Give a configuration of Presidio's NlpEngineProvider whose model names are folders.",
    )
