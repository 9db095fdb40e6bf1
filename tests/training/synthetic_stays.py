from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deid.policy import SAFE_HARBOR, Policy
from exports.sealed import Stage, hash_json, sealing
from features.matrix import FeatureMatrix

FEATURES = tuple(f"feature_{i:02d}" for i in range(20))
SEXES = np.array(["female", "male", None])
ROWS, PATIENTS, BUCKETS = 4000, 1500, 2


class Hospital:
    """Synthetic stays whose true risk is known, as the feature stage would leave them."""

    def __init__(
        self,
        *,
        rows: int = ROWS,
        patients: int = PATIENTS,
        seed: int = 1,
        policy: Policy = SAFE_HARBOR,
    ) -> None:
        self.policy = policy
        random = np.random.default_rng(seed)
        who = np.sort(random.integers(0, patients, rows))
        self.patient = random.permutation(2**40 + np.arange(patients) * 7919)[who]
        self.encounter = np.arange(rows, dtype=np.int64) + 10**9
        self.year = (
            2015 + random.integers(0, 4, patients)[who] + random.integers(0, 4, rows)
        ) % 9999
        frailty = random.normal(size=patients)[who]
        values = random.normal(size=(rows, len(FEATURES)))
        values[:, 0] += frailty
        values[:, 3] = np.round(values[:, 3])
        log_odds = (
            -1.9
            + 0.9 * values[:, 0]
            + 0.5 * values[:, 1]
            - 0.7 * (values[:, 2] > 0.5)
            + 0.4 * values[:, 3] * (values[:, 4] > 0)
        )
        self.risk = 1 / (1 + np.exp(-log_odds))
        self.label = (random.random(rows) < self.risk).astype(np.int8)
        self.lace = np.clip(np.round(8 + 2 * values[:, 0] + 2 * random.normal(size=rows)), 0, 19)
        values[:, 5] = values[:, 5] * 1000 + 5000
        values[random.random(values.shape) < 0.2] = np.nan
        values[:, 6] = np.nan
        self.values = values.astype(np.float32)
        self.sex = random.choice(SEXES, rows, p=[0.55, 0.44, 0.01])
        self.race = random.choice(["white", "black", "asian"], rows, p=[0.7, 0.29, 0.01])
        self.ethnicity = random.choice(["hispanic", "not hispanic"], rows, p=[0.2, 0.8])

    def shuffle_labels(self) -> Hospital:
        self.label = np.random.default_rng(9).permutation(self.label)
        return self

    def write(self, research: Path) -> FeatureMatrix:
        stage = Stage("features", 1, {"tables": hash_json(self.label.tolist())})
        columns = {
            "patient": self.patient,
            "encounter": self.encounter,
            "time": self.encounter * 60,
            "year": self.year.astype(np.int16),
            "label": self.label,
            "sex": self.sex,
            "race": self.race,
            "ethnicity": self.ethnicity,
            **{name: self.values[:, i] for i, name in enumerate(FEATURES)},
            "lace": self.lace.astype(np.float32),
        }
        table = pa.table(columns)
        with sealing(research / "features", stage) as draft:
            for bucket in range(BUCKETS):
                part = table.filter(self.patient % BUCKETS == bucket)
                pq.write_table(part, draft.path / f"bucket-{bucket:03d}.parquet")
            draft.facts.update(
                policy=self.policy.facts(),
                task="readmission_30d",
                features=list(FEATURES),
                scores=["lace"],
                rows=len(self.label),
                events=int(self.label.sum()),
                buckets=BUCKETS,
                attrition=[
                    {"step": "Inpatient stays", "stays": 5200, "patients": 1700},
                    {"step": "Discharged alive", "stays": 5020, "patients": 1640},
                    {"step": "Observed for 30 days", "stays": 4000, "patients": 1500},
                ],
                died_first=31,
            )
        return FeatureMatrix(draft.result)

    def write_oracle(self, folder: Path) -> Path:
        path = folder / "oracle.parquet"
        backwards = slice(None, None, -1)
        columns = {"patient": self.patient, "encounter": self.encounter, "risk": self.risk}
        pq.write_table(pa.table({k: v[backwards] for k, v in columns.items()}), path)
        return path
