"""Valid settings of a label store."""

from __future__ import annotations

from alps.structures.settings import Limits, Number

STORE: Limits = {"shard_size": Number(at_least=1, integer=True, also=(None,))}
