"""`ModelBundle`: everything that a service needs to run one model version, each file hashed.

`research/bundles/<key>/` holds `model.onnx`, `model_card.md`, `evaluation.json`, `thresholds.json`,
`golden.parquet` and the parts that other stages own: feature spec, views, vocabulary, value sets,
quantities, prefetch templates. A bundle is copied as a folder, and checks itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import jinja2

from deid.policy import check_place
from exports.errors import FhirloomError
from exports.sealed import (
    MANIFEST,
    Sealed,
    Stage,
    find_sealed,
    hash_file,
    hash_json,
    open_sealed,
    sealing,
)
from training.golden import check_golden
from training.train import TrainedModel

VERSION: Final = 2
FROM_MODEL: Final = ("model.onnx", "evaluation.json", "thresholds.json", "golden.parquet")
CARD: Final = "model_card.md"
TEMPLATES: Final = Path(__file__).parent / "templates"


def bundle(model: TrainedModel, parts: Mapping[str, Path | bytes], research: Path) -> Sealed:
    """Seal a bundle of the model and `parts`: a relative name to a file, a folder or its bytes.

    The same model and parts give the same bundle. Raises `FhirloomError` (bad-input) where a part's
    name leaves the bundle or is one of the bundle's own, and where `research` is no place for the
    policy by which the model's data were made.
    """
    check_place(model.sealed.facts, research)
    files = _part_files(parts)
    inputs = {"model": model.sealed.digest}
    inputs |= {f"part:{name}": _hash_part(part) for name, part in files.items()}
    stage = Stage("bundles", VERSION, inputs, hash_file(TEMPLATES / f"{CARD}.j2"))
    found = find_sealed(research / "bundles", stage)
    if found is not None:
        return found
    with sealing(research / "bundles", stage) as draft:
        for name in FROM_MODEL:
            shutil.copyfile(model.sealed.path / name, draft.path / name)
        (draft.path / CARD).write_text(model_card(model))
        for name, part in files.items():
            target = draft.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(part if isinstance(part, bytes) else part.read_bytes())
        draft.facts.update(
            policy=model.sealed.facts["policy"],
            recipe=model.sealed.facts["recipe"],
            features=model.sealed.facts["features"],
            model=model.sealed.digest,
        )
    return draft.result


def verify_bundle(path: Path) -> Sealed:
    """Check every file of a bundle against its manifest, and the graph on its golden vectors.

    Raises `FhirloomError`: bad-input for a file that is missing, changed or not in the manifest,
    parity-failed for golden vectors that the graph does not reproduce.
    """
    try:
        sealed = open_sealed(path)
        if sealed is None:
            raise _damaged("There is no bundle, or it has no manifest", MANIFEST)
        manifest = json.loads((sealed.path / MANIFEST).read_text())
        listed: dict[str, str] = manifest["files"]
    except (ValueError, KeyError, TypeError):
        raise _damaged("The manifest can't be read", MANIFEST) from None
    for name, digest in sorted(listed.items()):
        file = sealed.path / name
        if not file.is_file():
            raise _damaged("A file of the bundle is missing", name)
        if hash_file(file) != digest:
            raise _damaged("A file of the bundle was changed", name)
    present = {
        str(file.relative_to(sealed.path)) for file in sealed.path.rglob("*") if file.is_file()
    }
    for name in sorted(present - set(listed) - {MANIFEST}):
        raise _damaged("A file is not of the bundle", name)
    content = {name: manifest[name] for name in ("key", "files", "facts")}
    if hash_json(content) != manifest["digest"]:
        raise _damaged("The manifest was changed", MANIFEST)
    check_golden(sealed.path / "golden.parquet", (sealed.path / "model.onnx").read_bytes())
    return sealed


def model_card(model: TrainedModel) -> str:
    """The model card in Markdown (Mitchell et al. 2019), from the evaluation alone."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, of our own numbers and names
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = interval
    return environment.get_template(f"{CARD}.j2").render(
        facts=model.sealed.facts,
        evaluation=model.evaluation,
        thresholds=model.thresholds,
    )


def interval(estimate: Mapping[str, Any], digits: int = 2) -> str:
    """An estimate with its interval, as text: `0.74 (0.69 to 0.80)`."""
    if estimate["value"] is None:
        return "not known"
    value = f"{estimate['value']:.{digits}f}"
    if estimate["low"] is None:
        return value
    return f"{value} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def _part_files(parts: Mapping[str, Path | bytes]) -> dict[str, Path | bytes]:
    files: dict[str, Path | bytes] = {}
    for name, part in sorted(parts.items()):
        if isinstance(part, Path) and part.is_dir():
            inner = (file for file in sorted(part.rglob("*")) if file.is_file())
            files |= {f"{name}/{file.relative_to(part).as_posix()}": file for file in inner}
        else:
            files[name] = part
    for name in files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or name in {*FROM_MODEL, CARD, MANIFEST}:
            raise FhirloomError(
                "bad-input",
                "A part can't have this name",
                where=name,
                fix="Give it a relative name that the bundle does not use itself.",
            )
    return files


def _hash_part(part: Path | bytes) -> str:
    return hashlib.sha256(part).hexdigest() if isinstance(part, bytes) else hash_file(part)


def _damaged(what: str, file: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        what,
        where=file,
        fix="Take the bundle again from where it was made; don't deploy this copy.",
    )
