"""FastAPI with pydantic in and out, as its documentation has it: two uvicorn workers."""

import os
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.network import reconstruct


class Inputs(BaseModel):
    """A request."""

    inputs: list[list[float]]


class Outputs(BaseModel):
    """An answer."""

    outputs: list[list[float]]


def app() -> FastAPI:
    """The whole service."""
    forward = reconstruct(os.environ["MODEL"])
    service = FastAPI()

    @service.post("/reconstruct")
    async def answer(body: Inputs) -> Outputs:
        return Outputs(outputs=forward(torch.tensor(body.inputs)).tolist())

    return service


if __name__ == "__main__":
    os.environ["MODEL"] = sys.argv[1]
    uvicorn.run(
        "benchmarks.peers.typed_fastapi:app",
        factory=True,
        port=int(sys.argv[2]),
        workers=2,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
