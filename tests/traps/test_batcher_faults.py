"""A fault in the batcher's own code, or a model's error, must not end its loop and leave all later requests hanging."""

import asyncio
from pathlib import Path
from typing import Any, NoReturn

from bundle.calibration import Floats
from bundle.operations import Method
from service import errors
from tests.service.programs import PATIENCE, Program
from tests.service.serving import ROWS, assert_problem, serving


class _Unslicable:
    """An output of the right length, of which nobody gets a part: the fault shows after the forward pass, in what the
    batcher does with its result."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, _: object) -> NoReturn:
        raise LookupError("secret")


class _FaultyOnce(Program):
    """Gives such an output for so many batches of more than two rows."""

    faults = 0

    def __call__(self, method: Method, rows: Floats) -> tuple[Any, ...]:
        """What the tiny bundle answers, or what cannot be handed out."""
        outputs = super().__call__(method, rows)
        if len(rows) > 2 and self.faults:
            self.faults -= 1
            return (_Unslicable(len(rows)),)
        return outputs


async def test_a_fault_of_the_batchers_own_code_concerns_its_batch_and_the_loop_survives(models: Path) -> None:
    program = _FaultyOnce()
    async with serving(models, program) as served:
        program.faults = 1
        program.hold()
        before = asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS}))
        await program.entered()
        batch = [asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS})) for _ in range(3)]
        batcher = served.repository.get("tiny").batcher
        while batcher.pending_rows < 4 * len(ROWS):
            await asyncio.sleep(0)
        program.release()
        assert (await before).status_code == 200
        for response in await asyncio.wait_for(asyncio.gather(*batch), PATIENCE):
            assert_problem(response, errors.InternalError)
            assert "secret" not in response.text
        assert program.batches == [2, 6]
        assert (batcher.alive, batcher.pending_rows) == (True, 0)
        assert (await served.get("/readyz")).status_code == 200
        later = await served.post("tiny/encode", json={"inputs": [*ROWS, *ROWS]})
        assert later.json()["latents"] == [row[:2] for row in [*ROWS, *ROWS]]
