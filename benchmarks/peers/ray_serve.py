"""Ray Serve: two replicas behind HAProxy, its mode for high throughput. Arguments: largest batch."""

import sys

import numpy as np
import orjson
import ray
import torch
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.network import reconstruct


@serve.deployment(num_replicas=2, max_ongoing_requests=128, ray_actor_options={"num_cpus": 0.5})
class Reconstruction:
    """Lists of rows, or a body of float32 values."""

    def __init__(self, path: str, largest_batch: int) -> None:
        self.forward = reconstruct(path)
        self.batches = largest_batch > 1

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def batched(self, requests: list[torch.Tensor]) -> list[torch.Tensor]:
        """One forward for all that wait."""
        return list(self.forward(torch.cat(requests)).split([len(rows) for rows in requests]))

    async def __call__(self, request: Request) -> Response:
        """Answers as it was asked."""
        body = await request.body()
        raw = request.headers["content-type"] == "application/octet-stream"
        values = np.frombuffer(body, "<f4").reshape(-1, 784).copy() if raw else orjson.loads(body)["inputs"]
        rows = torch.from_numpy(np.asarray(values, dtype=np.float32))
        output = (await self.batched(rows) if self.batches else self.forward(rows)).numpy()
        if raw:
            return Response(output.tobytes(), media_type="application/octet-stream")
        content = orjson.dumps({"outputs": np.ascontiguousarray(output)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[2])}, logging_config={"enable_access_log": False}
    )
    serve.run(Reconstruction.bind(sys.argv[1], int(sys.argv[3])), blocking=True)  # type: ignore[attr-defined]
