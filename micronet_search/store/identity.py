"""What tells a study from another one of its name: on a shared server, or begun anew."""

from __future__ import annotations

import uuid

from micronet_search.store.files import read_json, write_json
from micronet_search.store.paths import StudyFolder


def study_id(study: StudyFolder) -> str:
    """The id in a study's `study.json`, which is made where it is missing.

    Raises:
        ValueError: The file is damaged.
    """
    if not study.identity.exists():
        write_json(study.identity, {"id": uuid.uuid4().hex})
    match read_json(study.identity):
        case {"id": str(found)} if found.isalnum():
            return found
    raise ValueError(f"{study.identity} is damaged, expected the id of the study's run in MLflow")
