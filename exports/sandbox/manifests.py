"""The manifest of a completed export, in the words of each version.

Source: FHIR Bulk Data Access 2.0.0, 3.0.0 and 4.0.0-ballot, "Output Manifest". 3.0.0 brought pages
and organization by patient; the ballot renamed `error` to `outcome`, tells file sizes and counts
by severity, and dropped `request`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from exports.sandbox.jobs import ServerJob
from exports.sandbox.manner import Version
from exports.sandbox.source import Kind, SourceFile


@dataclass(frozen=True)
class Manifests:
    """Writes manifests: `url_of` and `size_of` tell a file's URL and its bytes on the wire."""

    version: Version
    transaction_time: datetime
    with_token: bool

    def page(
        self,
        job: ServerJob,
        files: Sequence[SourceFile],
        url_of: Callable[[SourceFile], str],
        size_of: Callable[[SourceFile], int],
        next_url: str = "",
    ) -> dict[str, Any]:
        """One page of a job's manifest; `next_url` is where it goes on."""

        def entries(kind: Kind) -> list[dict[str, Any]]:
            return [self._entry(file, url_of, size_of) for file in files if file.kind == kind]

        page: dict[str, Any] = {"transactionTime": self.transaction_time.isoformat()}
        if self.version != "STU4":
            page["request"] = job.request
        page["requiresAccessToken"] = self.with_token
        if job.order.organize_by:
            page["outputOrganizedBy"] = job.order.organize_by
        page["output"] = entries("output")
        page["error" if self.version != "STU4" else "outcome"] = entries("outcome")
        page["deleted"] = entries("deleted")
        if next_url:
            page["link"] = [{"relation": "next", "url": next_url}]
        return page

    def _entry(
        self,
        file: SourceFile,
        url_of: Callable[[SourceFile], str],
        size_of: Callable[[SourceFile], int],
    ) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": file.type, "url": url_of(file), "count": file.rows}
        if self.version == "STU4":
            entry["fileSize"] = size_of(file)
            if file.severities:
                entry["countSeverity"] = [
                    {"code": code, "count": count} for code, count in file.severities.items()
                ]
        if not file.type or (self.version == "STU4" and file.kind != "output"):
            del entry["type"]
        return entry
