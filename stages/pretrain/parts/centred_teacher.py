"""Parameters of methods whose student matches the centred softmax of a teacher."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import meaning

StudentTemperature = Annotated[float, Field(gt=0, le=10), meaning("The student's softmax has this temperature.")]
CentreMomentum = Annotated[
    float,
    Field(ge=0, le=1),
    meaning("The centre of the teacher's outputs keeps this share of itself at each step; 1 leaves centring out."),
]
GradientClip = Annotated[
    float, Field(ge=0), meaning("The gradient of each parameter is cut to this norm; 0 for no limit.")
]
