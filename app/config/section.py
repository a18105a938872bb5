"""What every part of the configuration is made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

Confidence = Literal["vendor-stated", "derived", "estimate", "secondary", "assumed", "not public"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$")]
Usd = Annotated[Decimal, Field(ge=0, le=Decimal("1e9"), allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Capabilities = Annotated[
    frozenset[Literal["tools", "json_schema", "vision", "logprobs", "n", "embeddings"]],
    PlainSerializer(sorted, return_type=list[str], when_used="json"),
]
"""In order as JSON: hashes are made of that, and a set has another order in another process."""


class Section(BaseModel):
    """A part of the configuration: frozen, strict about its keys, and every number a finite one."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)
